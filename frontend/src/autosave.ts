/** Writes the project a moment after each change, and puts it back when the page is opened again. */
import type { ModelInfo } from './backend/backend'
import type { Editor } from './canvas/editor'
import type { LabelMap } from './canvas/label-map'
import type { ToolName } from './canvas/tools'
import type { ResolutionName } from './resolution'
import type { Session } from './session'
import type { Signal } from './signal'
import { packLayout, packReference, type Project, restoredLayout, saveProject, unpackReference } from './storage'
import { notify } from './views/notice'

const DELAY = 400 // milliseconds

export interface Restored {
  project: Project
  layout: LabelMap
  model: ModelInfo
}

/** The stored project, if it fits one of the models: the one it was made with, else the first. */
export function fitting(project: Project | null, models: readonly ModelInfo[]): Restored | null {
  if (!project) return null
  const model = models.find(({ id }) => id === project.model) ?? models[0]
  try {
    const layout = restoredLayout(project, model.labels)
    return layout && { project, layout, model }
  } catch {
    return null // written by another version
  }
}

/** Puts the choices of a project back. */
export function restore({ project, model }: Restored, session: Session, editor: Editor): void {
  session.model.value = model
  session.recent.value = project.recent.filter((index) => model.labels.classes[index])
  if (model.labels.classes[project.value]) session.value.value = project.value
  session.name.value = project.name
  session.seed.value = project.seed
  session.samples.value = project.samples
  session.resolution.value = project.resolution as ResolutionName
  session.overlay.value = project.overlay
  session.other.value = session.models.find(({ id }) => id === project.other) ?? null
  session.style.value = project.style && unpackReference(project.style)
  session.classStyles.value = new Map(project.classStyles.map(([index, stored]) => [index, unpackReference(stored)]))
  editor.tool.value = project.tool as ToolName
  editor.brush.value = { size: project.brush.size, shape: project.brush.shape === 'square' ? 'square' : 'round' }
}

export function autosave(session: Session, editor: Editor): void {
  let timer: ReturnType<typeof setTimeout> | undefined
  let warned = false
  const write = () => {
    clearTimeout(timer)
    timer = undefined
    saveProject(current(session, editor)).catch(() => {
      if (!warned) notify('This browser keeps no data: save your work as a file.')
      warned = true
    })
  }
  const soon = () => {
    clearTimeout(timer)
    timer = setTimeout(write, DELAY)
  }
  session.document.onChange((_box, done) => done && soon())
  const { model, other, seed, samples, resolution, overlay, value, style, classStyles, name } = session
  const signals = [model, other, seed, samples, resolution, overlay, value, style, classStyles, name, editor.tool, editor.brush]
  for (const signal of signals) (signal as Signal<unknown>).onChange(soon)
  window.addEventListener('pagehide', () => timer !== undefined && write())
}

function current(session: Session, editor: Editor): Project {
  return {
    ...packLayout(session.document.map, session.model.value.labels),
    model: session.model.value.id,
    other: session.other.value?.id ?? null,
    name: session.name.value,
    seed: session.seed.value,
    samples: session.samples.value,
    resolution: session.resolution.value,
    overlay: session.overlay.value,
    value: session.value.value,
    recent: [...session.recent.value],
    tool: editor.tool.value,
    brush: { ...editor.brush.value },
    style: session.style.value && packReference(session.style.value),
    classStyles: [...session.classStyles.value].map(([index, reference]) => [index, packReference(reference)]),
  }
}
