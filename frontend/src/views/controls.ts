/** Under the photo: size, model to compare with, seed and samples. */
import type { ModelInfo } from '../backend/backend'
import { button, byId, input, select, setOptions } from '../dom'
import { drawsStyles } from '../generation'
import { choose, type ResolutionName, resolutions } from '../resolution'
import type { Session } from '../session'

const SAMPLES = [1, 2, 4, 8]

export function showControls(session: Session): void {
  const models = session.models.map(({ id, name }) => ({ value: id, text: name }))
  const find = (id: string) => session.models.find((model) => model.id === id) ?? null
  setOptions(select('model'), models, session.model.value.id)
  select('model').closest('label')!.classList.toggle('single', models.length === 1)
  select('model').addEventListener('change', () => (session.model.value = find(select('model').value) ?? session.model.value))
  select('compare').addEventListener('change', () => (session.other.value = find(select('compare').value)))
  session.model.follow((model) => {
    select('model').value = model.id
    showOthers(session, model)
  })
  session.other.follow((other) => (select('compare').value = other?.id ?? ''))
  followSizes(session)
  followRandom(session)
}

/** Models with the same classes can draw the same layout. */
function showOthers(session: Session, model: ModelInfo): void {
  const classes = JSON.stringify(model.labels.classes.map(({ name }) => name))
  const same = session.models.filter(
    ({ id, labels }) => id !== model.id && JSON.stringify(labels.classes.map(({ name }) => name)) === classes,
  )
  byId('compare-row').hidden = same.length === 0
  if (session.other.value && !same.includes(session.other.value)) session.other.value = null
  const options = [{ value: '', text: 'nothing' }, ...same.map(({ id, name }) => ({ value: id, text: name }))]
  setOptions(select('compare'), options, session.other.value?.id ?? '')
}

function followSizes(session: Session): void {
  const show = () => {
    const options = resolutions(session.model.value, session.document.map, session.samples.value)
    const chosen = choose(options, session.resolution.value)
    setOptions(select('resolution'), options.map(({ name, text }) => ({ value: name, text })), chosen.name)
  }
  select('resolution').addEventListener('change', () => (session.resolution.value = select('resolution').value as ResolutionName))
  session.model.follow(show)
  session.samples.onChange(show)
  session.resolution.onChange(show)
  session.document.onChange((_box, done) => done && show())
}

function followRandom(session: Session): void {
  setOptions(select('samples'), SAMPLES.map((count) => ({ value: String(count), text: String(count) })), '1')
  select('samples').addEventListener('change', () => (session.samples.value = Number(select('samples').value)))
  session.samples.follow((count) => (select('samples').value = String(count)))
  input('seed').addEventListener('change', () => {
    if (input('seed').checkValidity() && input('seed').value) session.seed.value = input('seed').valueAsNumber
    else input('seed').value = String(session.seed.value)
  })
  session.seed.follow((seed) => (input('seed').value = String(seed)))
  button('roll').addEventListener('click', () => session.roll())
  const show = () => offerRandom(session)
  session.model.follow(show)
  session.other.onChange(show)
  session.style.onChange(show)
}

/** Seeds and samples are offered where they change a picture: styles that are drawn, noise that the model adds. */
function offerRandom(session: Session): void {
  const models = [session.model.value, session.other.value].filter((model) => model !== null)
  const draws = models.some((model) => drawsStyles(model, session))
  const seeds = draws || models.some(({ noise }) => noise)
  byId('random').hidden = !models.some(({ noise, style }) => noise || style?.random)
  byId('samples-label').hidden = !models.some(({ style }) => style?.random)
  input('seed').disabled = button('roll').disabled = !seeds
  select('samples').disabled = !draws
}
