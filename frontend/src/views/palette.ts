/** The classes of the model's label set: search, recent ones, and which of them the model never saw. */
import { byId, cssColor, input, make } from '../dom'
import { type LabelClass, searchClasses } from '../labels'
import type { Session } from '../session'

export function showPalette(session: Session): void {
  const search = input('search')
  const list = byId('classes')
  const draw = () => {
    const { labels, unseen } = session.model.value
    const found = searchClasses(labels, search.value)
    list.replaceChildren(...found.map((entry) => row(session, entry, unseen.includes(entry.index))))
    byId('no-class').hidden = found.length > 0
    check(session.value.value)
  }
  session.model.follow(draw)
  search.addEventListener('input', draw)
  search.addEventListener('keydown', (event) => {
    if (event.key !== 'Enter') return
    const [first] = searchClasses(session.model.value.labels, search.value)
    if (first) session.value.value = first.index
  })
  session.value.follow(check)
  for (const signal of [session.recent, session.model]) (signal as typeof session.recent).follow(() => showRecent(session))
}

function row(session: Session, { index, name, color }: LabelClass, unseen: boolean): HTMLLabelElement {
  const radio = make('input', { type: 'radio', name: 'class', value: String(index) })
  radio.addEventListener('change', () => (session.value.value = index))
  const mark = unseen && make('span', { class: 'mark', title: 'The model never saw this class in training' }, 'never seen')
  return make('label', { class: 'class' }, radio, swatch(color), make('span', {}, name), mark)
}

function check(value: number): void {
  const radio = byId('classes').querySelector<HTMLInputElement>(`input[value="${value}"]`)
  if (!radio || radio.checked) return
  radio.checked = true
  radio.closest('label')!.scrollIntoView({ block: 'nearest', inline: 'nearest' })
}

function showRecent(session: Session): void {
  const { labels } = session.model.value
  const known = session.recent.value.filter((index) => labels.classes[index])
  byId('recent').hidden = known.length < 2
  byId('recent').replaceChildren(
    ...known.map((index, place) => {
      const { name, color } = labels.classes[index]
      const button = make('button', { type: 'button', 'aria-label': name, title: `${name} (${place + 1})` })
      button.style.background = cssColor(color)
      button.addEventListener('click', () => (session.value.value = index))
      return button
    }),
  )
}

export function swatch(color: readonly number[]): HTMLSpanElement {
  const element = make('span', { class: 'swatch', 'aria-hidden': 'true' })
  element.style.background = cssColor(color)
  return element
}
