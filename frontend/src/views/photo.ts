/** The photo, the layout over it, the other model's photo beside a slider, and the strip of samples. */
import type { LayoutPicture } from '../canvas/picture'
import { byId, context, input, make } from '../dom'
import type { Generation, Photo } from '../generation'
import type { Session } from '../session'
import { Signal } from '../signal'

/** Which of the samples is shown large. */
export const chosenSample = new Signal(0)

export function showPhoto(session: Session, generation: Generation, picture: LayoutPicture): void {
  const main = byId('photo-main', HTMLCanvasElement)
  const other = byId('photo-other', HTMLCanvasElement)
  generation.main.follow((photo) => {
    if (photo && chosenSample.value >= photo.bitmaps.length) chosenSample.value = 0
    draw(main, photo)
    showStrip(photo)
    showOverlay(session, picture, main)
    byId('empty').hidden = photo !== null
    byId('latency').textContent = photo ? `${Math.round(photo.total)} ms, ${Math.round(photo.milliseconds)} of them in the model` : ''
  })
  generation.other.follow((photo) => {
    draw(other, photo)
    showCompared(session, photo)
  })
  chosenSample.onChange(() => {
    draw(main, generation.main.value)
    draw(other, generation.other.value)
  })
  generation.busy.follow((busy) => (byId('busy').hidden = !busy))
  generation.trouble.follow((sentence) => {
    byId('trouble').hidden = sentence === null
    byId('trouble').textContent = sentence
  })
  session.document.onChange(() => session.overlay.value && showOverlay(session, picture, main))
  session.overlay.follow((percent) => {
    input('overlay').value = String(percent)
    byId('overlay-text').textContent = `${percent} %`
    showOverlay(session, picture, main)
  })
  input('overlay').addEventListener('input', () => (session.overlay.value = input('overlay').valueAsNumber))
  listenSplit(session)
}

function draw(canvas: HTMLCanvasElement, photo: Photo | null): void {
  const bitmap = photo?.bitmaps[Math.min(chosenSample.value, photo.bitmaps.length - 1)]
  canvas.hidden = !bitmap
  if (!bitmap) return
  canvas.width = bitmap.width
  canvas.height = bitmap.height
  context(canvas).drawImage(bitmap, 0, 0)
}

/** The layout at the size of the photo, so that both lie at the same place. */
function showOverlay(session: Session, picture: LayoutPicture, photo: HTMLCanvasElement): void {
  const overlay = byId('photo-overlay', HTMLCanvasElement)
  const opacity = session.overlay.value / 100
  overlay.hidden = opacity === 0 || photo.hidden
  if (overlay.hidden) return
  overlay.width = photo.width
  overlay.height = photo.height
  overlay.style.opacity = String(opacity)
  const pen = context(overlay)
  pen.imageSmoothingEnabled = false
  pen.drawImage(picture.canvas, 0, 0, overlay.width, overlay.height)
}

function showStrip(photo: Photo | null): void {
  const strip = byId('strip')
  const bitmaps = photo?.bitmaps ?? []
  strip.hidden = bitmaps.length < 2
  strip.replaceChildren(...(strip.hidden ? [] : bitmaps.map(sample)))
}

function sample(bitmap: ImageBitmap, index: number): HTMLLabelElement {
  const radio = make('input', { type: 'radio', name: 'sample', value: String(index), 'aria-label': `Sample ${index + 1}` })
  radio.checked = index === chosenSample.value
  radio.addEventListener('change', () => (chosenSample.value = index))
  const canvas = make('canvas', { width: String(bitmap.width), height: String(bitmap.height) })
  context(canvas).drawImage(bitmap, 0, 0)
  return make('label', { class: 'sample' }, radio, canvas)
}

function showCompared(session: Session, photo: Photo | null): void {
  for (const id of ['divider', 'names', 'split-row']) byId(id).hidden = photo === null
  byId('photo').classList.toggle('comparing', photo !== null)
  byId('name-left').textContent = session.model.value.name
  byId('name-right').textContent = photo?.model.name ?? ''
  split(input('split').valueAsNumber)
}

/** The other model's photo is seen right of the divider. */
function split(percent: number): void {
  const photo = byId('photo')
  const canvas = byId('photo-other', HTMLCanvasElement)
  const inner = Math.max(1, photo.clientWidth - 16)
  const shown = Math.min(inner, (Math.max(1, photo.clientHeight - 16) * canvas.width) / Math.max(1, canvas.height))
  const left = (inner - shown) / 2 + (shown * percent) / 100
  canvas.style.clipPath = `inset(0 0 0 ${left}px)`
  byId('divider').style.left = `${left + 8}px`
}

function listenSplit(session: Session): void {
  const slider = input('split')
  const photo = byId('photo')
  slider.addEventListener('input', () => split(slider.valueAsNumber))
  new ResizeObserver(() => split(slider.valueAsNumber)).observe(photo)
  const drag = (event: PointerEvent) => {
    if (!session.other.value || !event.buttons) return
    const { left, width } = byId('photo-other').getBoundingClientRect()
    const canvas = byId('photo-other', HTMLCanvasElement)
    const shown = Math.min(width, (photo.clientHeight - 16) * (canvas.width / Math.max(1, canvas.height)))
    slider.valueAsNumber = Math.min(100, Math.max(0, (100 * (event.clientX - left - (width - shown) / 2)) / shown))
    split(slider.valueAsNumber)
  }
  photo.addEventListener('pointerdown', drag)
  photo.addEventListener('pointermove', drag)
}
