/** At which sizes a photo can be drawn. */
import type { ModelInfo } from './backend/backend'
import type { Size } from './canvas/viewport'

export type ResolutionName = 'model' | 'layout' | 'double'

export interface Resolution {
  name: ResolutionName
  text: string
  /** Height and width. */
  size: [number, number]
}

const LARGEST = 2048 * 2048 // pixels of all samples together, as the server allows

/** The choices for a layout: about the size of training, that of the layout, twice that of training. */
export function resolutions(model: ModelInfo, layout: Size, samples: number): Resolution[] {
  const own: Resolution = { name: 'layout', text: 'As painted', size: [layout.height, layout.width] }
  const all: Resolution[] = [
    { name: 'model', text: 'As trained', size: likeTraining(model, layout, 1) },
    own,
    { name: 'double', text: 'Twice as trained', size: likeTraining(model, layout, 2) },
  ]
  const seen = new Set<string>()
  return all
    .filter(({ size }) => size[0] * size[1] * samples <= LARGEST && !seen.has(String(size)) && seen.add(String(size)))
    .map((entry) => ({ ...entry, text: `${entry.text} · ${entry.size[1]} × ${entry.size[0]}` }))
}

/** The one with a name, else the first. */
export function choose(options: Resolution[], name: ResolutionName): Resolution {
  return options.find((option) => option.name === name) ?? options[0]
}

/** The shape of the layout with as many pixels as in training, times `factor` along each side. */
function likeTraining(model: ModelInfo, layout: Size, factor: number): [number, number] {
  const scale = factor * Math.sqrt((model.size[0] * model.size[1]) / (layout.width * layout.height))
  const side = (length: number) => nearMultiple(length * scale, model.size_multiple)
  return [side(layout.height), side(layout.width)]
}

/** A multiple, which needs no padding, where one is so near that the shape stays; else the nearest whole number. */
function nearMultiple(length: number, multiple: number): number {
  const rounded = Math.round(length / multiple) * multiple
  return Math.abs(rounded - length) <= 0.05 * length ? rounded : Math.max(1, Math.round(length))
}
