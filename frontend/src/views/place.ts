/** Under the canvas: the class under the pointer, the zoom, and the warning about classes without training. */
import type { Editor } from '../canvas/editor'
import { classesOf } from '../canvas/label-map'
import { button, byId, input, make } from '../dom'
import { className } from '../labels'
import type { Session } from '../session'
import { swatch } from './palette'

export function showPlace(session: Session, editor: Editor): void {
  const name = () => namePlace(session, editor)
  editor.place.follow(name)
  session.document.onChange((_box, done) => done && name())
  editor.scale.follow((scale) => (byId('zoom').textContent = `${Math.round(scale * 100)} %`))
  button('zoom-in').addEventListener('click', () => editor.zoomBy(1.25))
  button('zoom-out').addEventListener('click', () => editor.zoomBy(0.8))
  button('zoom-fit').addEventListener('click', () => editor.fit())
  const opacity = input('under-opacity')
  opacity.addEventListener('input', () => {
    const under = editor.under.value
    if (under) editor.under.value = { ...under, opacity: opacity.valueAsNumber / 100 }
  })
  editor.under.follow((under) => {
    byId('under').hidden = under === null
    if (under) opacity.value = String(under.opacity * 100)
  })
  const warn = () => warnUnseen(session)
  session.model.follow(warn)
  session.value.onChange(warn)
  session.document.onChange((_box, done) => done && warn())
}

/** The class under the pointer and where that is; without one, the size of the layout. */
function namePlace(session: Session, editor: Editor): void {
  const place = editor.place.value
  if (!place) {
    const { width, height } = session.document.map
    byId('place').replaceChildren(make('span', { class: 'quiet' }, `${width} × ${height} pixels`))
    return
  }
  const { labels } = session.model.value
  const mark = swatch(labels.classes[place.value]?.color ?? [0, 0, 0])
  mark.classList.add('inline')
  const where = make('span', { class: 'quiet' }, ` ${place.x}, ${place.y}`)
  byId('place').replaceChildren(mark, ` ${className(labels, place.value)} `, where)
}

function warnUnseen(session: Session): void {
  const { labels, unseen } = session.model.value
  const present = unseen.length ? classesOf(session.document.map) : new Set<number>()
  present.add(session.value.value)
  const names = unseen.filter((index) => present.has(index)).map((index) => className(labels, index))
  const warning = byId('unseen')
  warning.hidden = names.length === 0
  const text = names.length ? `The model never saw ${names.join(', ')} in training: expect anything there.` : ''
  if (warning.textContent !== text) warning.textContent = text
}
