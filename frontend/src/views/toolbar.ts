/** The tools and the brush. */
import type { Editor } from '../canvas/editor'
import type { ToolName } from '../canvas/tools'
import { button, byId, input, make } from '../dom'

export const TOOLS: { name: ToolName; title: string; key: string }[] = [
  { name: 'brush', title: 'Brush', key: 'B' },
  { name: 'eraser', title: 'Eraser (to unknown)', key: 'E' },
  { name: 'fill', title: 'Fill', key: 'F' },
  { name: 'line', title: 'Line', key: 'L' },
  { name: 'rectangle', title: 'Rectangle', key: 'U' },
  { name: 'polygon', title: 'Polygon', key: 'P' },
  { name: 'picker', title: 'Pick a class', key: 'I' },
  { name: 'lasso', title: 'Lasso and move', key: 'M' },
  { name: 'hand', title: 'Move the view', key: 'H' },
]

const LARGEST = 400 // pixels

export function showToolbar(editor: Editor): void {
  byId('tools').replaceChildren(...TOOLS.map((tool) => toolButton(editor, tool)))
  editor.tool.follow((name) => {
    byId('tools').querySelector<HTMLInputElement>(`[value="${name}"]`)!.checked = true
    byId('canvas').dataset.tool = name
  })
  editor.unknown.follow((unknown) => {
    byId('tools').querySelector<HTMLInputElement>('[value="eraser"]')!.disabled = unknown === null
    if (unknown === null && editor.tool.value === 'eraser') editor.tool.value = 'brush'
  })
  const size = input('brush-size')
  size.addEventListener('input', () => setBrushSize(editor, fromSlider(size.valueAsNumber)))
  button('brush-shape').addEventListener('click', () => toggleShape(editor))
  editor.brush.follow((brush) => {
    size.value = String(toSlider(brush.size))
    byId('brush-size-text').textContent = `${brush.size} px`
    button('brush-shape').setAttribute('aria-pressed', String(brush.shape === 'square'))
  })
}

export function setBrushSize(editor: Editor, size: number): void {
  editor.brush.value = { ...editor.brush.value, size: Math.min(LARGEST, Math.max(1, Math.round(size))) }
}

export function toggleShape(editor: Editor): void {
  editor.brush.value = { ...editor.brush.value, shape: editor.brush.value.shape === 'round' ? 'square' : 'round' }
}

function toolButton(editor: Editor, { name, title, key }: (typeof TOOLS)[number]): HTMLLabelElement {
  const radio = make('input', { type: 'radio', name: 'tool', value: name, 'aria-label': title })
  radio.addEventListener('change', () => (editor.tool.value = name))
  return make('label', { class: 'tool', title: `${title} (${key})` }, radio, icon(name))
}

function icon(name: string): SVGSVGElement {
  const space = 'http://www.w3.org/2000/svg'
  const picture = document.createElementNS(space, 'svg')
  const use = document.createElementNS(space, 'use')
  use.setAttribute('href', `#i-${name}`)
  picture.setAttribute('aria-hidden', 'true')
  picture.append(use)
  return picture
}

/** The slider is finer for small brushes. */
function fromSlider(value: number): number {
  return LARGEST ** (value / 100)
}

function toSlider(size: number): number {
  return (100 * Math.log(size)) / Math.log(LARGEST)
}
