/** Keyboard shortcuts: one table for what they do and for the help sheet. */
import type { Editor } from './canvas/editor'
import { button, byId, dialog, input, make } from './dom'
import type { Session } from './session'
import { setBrushSize, TOOLS, toggleShape } from './views/toolbar'

export interface Shortcut {
  /** As a person reads it; alternatives separated by a blank. */
  shown: string
  text: string
  matches: (event: KeyboardEvent) => boolean
  run: (event: KeyboardEvent) => void
}

const STEPS: Record<string, [number, number]> = {
  ArrowLeft: [-1, 0],
  ArrowRight: [1, 0],
  ArrowUp: [0, -1],
  ArrowDown: [0, 1],
}

export function shortcuts(session: Session, editor: Editor): Shortcut[] {
  const { document } = session
  const plain = (shown: string, text: string, run: Shortcut['run'], ...keys: string[]): Shortcut => ({
    shown,
    text,
    matches: (event) => !command(event) && !event.altKey && (keys.length ? keys : [shown.toLowerCase()]).includes(event.key.toLowerCase()),
    run,
  })
  const withCommand = (shown: string, text: string, matches: (key: string, shift: boolean) => boolean, run: () => void): Shortcut => ({
    shown,
    text,
    matches: (event) => command(event) && !event.altKey && matches(event.key.toLowerCase(), event.shiftKey),
    run,
  })
  const resize = (factor: number) => {
    const { size } = editor.brush.value
    setBrushSize(editor, factor > 1 ? Math.max(size + 1, size * factor) : Math.min(size - 1, size * factor))
  }
  return [
    ...TOOLS.map(({ name, title, key }) =>
      plain(key, title, () => {
        if (name !== 'eraser' || editor.unknown.value !== null) editor.tool.value = name
      }),
    ),
    plain('[ ]', 'Smaller and larger brush', ({ key }) => resize(key === ']' ? 1.2 : 1 / 1.2), '[', ']'),
    plain('Q', 'Round or square brush', () => toggleShape(editor)),
    plain('1 … 9', 'Recent classes', ({ key }) => pickRecent(session, Number(key) - 1), ...'123456789'),
    plain('X', 'The class before', () => pickRecent(session, 1)),
    plain('/', 'Search a class', () => input('search').focus()),
    withCommand('Ctrl+Z', 'Undo', (key, shift) => key === 'z' && !shift, () => document.undo()),
    withCommand('Ctrl+Shift+Z', 'Redo (or Ctrl+Y)', (key, shift) => (key === 'z' && shift) || key === 'y', () => document.redo()),
    withCommand('Ctrl+O', 'Start from…', (key) => key === 'o', () => button('start').click()),
    withCommand('Ctrl+S', 'Save layout and photo', (key) => key === 's', () => button('save-both').click()),
    plain('+ -', 'Zoom in and out', ({ key }) => editor.zoomBy(key === '-' ? 0.8 : 1.25), '+', '=', '-'),
    plain('0', 'Show the whole layout', () => editor.fit()),
    plain('O', 'Layout over the photo, on and off', () => (session.overlay.value = session.overlay.value ? 0 : 50)),
    plain('R', 'Another random style', () => button('roll').click()),
    plain('?', 'This sheet', () => dialog('help-dialog').showModal()),
    plain('Esc', 'Give up a stroke, polygon or selection', () => editor.cancel(), 'escape'),
  ]
}

/** Keys of the canvas alone, and gestures; for the help sheet. */
const MORE: [string, string][] = [
  ['Arrows', 'On the layout: move a cross (Shift: 10 pixels)'],
  ['Enter', 'On the layout: press and lift the tool; end a polygon'],
  ['Space', 'Held: move the view'],
  ['Wheel', 'Zoom (Shift: move the view)'],
  ['Shift', 'Brush: straight on; line: 45°; rectangle: square; fill: everywhere'],
  ['Alt', 'Lasso: move a copy'],
]

export function listenKeys(session: Session, editor: Editor): void {
  const all = shortcuts(session, editor)
  window.addEventListener('keydown', (event) => {
    if (isTyping(event) || document.querySelector('dialog[open]')) return
    if (onCanvas(event, editor)) return
    const found = all.find((shortcut) => shortcut.matches(event))
    if (!found) return
    event.preventDefault()
    found.run(event)
  })
  window.addEventListener('keyup', ({ key }) => {
    if (key === ' ') editor.panning = false
  })
  window.addEventListener('blur', () => (editor.panning = false))
  showHelp(all)
}

/** The keys that mean something only while the canvas has the focus. */
function onCanvas(event: KeyboardEvent, editor: Editor): boolean {
  if (event.target !== byId('canvas') || command(event)) return false
  const step = STEPS[event.key]
  if (step) editor.moveCross(...(step.map((value) => value * (event.shiftKey ? 10 : 1)) as [number, number]))
  else if (event.key === 'Enter' && event.shiftKey) editor.finish()
  else if (event.key === 'Enter') editor.pressCross()
  else if (event.key === ' ') editor.panning = true
  else return false
  event.preventDefault()
  return true
}

function showHelp(all: Shortcut[]): void {
  const rows: [string, string][] = [...all.map(({ shown, text }): [string, string] => [shown, text]), ...MORE]
  byId('keys').replaceChildren(
    ...rows.map(([keys, text]) => make('div', { class: 'key' }, make('span', {}, text), make('span', {}, make('kbd', {}, keys)))),
  )
  button('help').addEventListener('click', () => dialog('help-dialog').showModal())
}

function pickRecent(session: Session, place: number): void {
  const index = session.recent.value[place]
  if (index !== undefined && session.model.value.labels.classes[index]) session.value.value = index
}

function command(event: KeyboardEvent): boolean {
  return event.ctrlKey || event.metaKey
}

function isTyping({ target }: KeyboardEvent): boolean {
  if (target instanceof HTMLInputElement) return !['radio', 'range', 'checkbox', 'file'].includes(target.type)
  return target instanceof HTMLTextAreaElement || target instanceof HTMLSelectElement
}
