/** How the layout lies on the screen: a pixel (x, y) is shown at (left + x * scale, top + y * scale). */
import type { Point } from './label-map'

export interface View {
  scale: number
  left: number
  top: number
}

export interface Size {
  width: number
  height: number
}

const LARGEST = 64
const MARGIN = 8

/** The whole layout in the middle of the area. */
export function fit(layout: Size, area: Size): View {
  const inner = (side: number) => Math.max(1, side - 2 * MARGIN)
  const scale = Math.min(inner(area.width) / layout.width, inner(area.height) / layout.height, LARGEST)
  return {
    scale,
    left: (area.width - layout.width * scale) / 2,
    top: (area.height - layout.height * scale) / 2,
  }
}

/** Larger or smaller by a factor, the place under `centre` staying where it is. */
export function zoom(view: View, factor: number, centre: Point, layout: Size, area: Size): View {
  const smallest = fit(layout, area).scale / 4
  const scale = Math.min(LARGEST, Math.max(smallest, view.scale * factor))
  const change = scale / view.scale
  return held(
    { scale, left: centre.x - (centre.x - view.left) * change, top: centre.y - (centre.y - view.top) * change },
    layout,
    area,
  )
}

export function pan(view: View, dx: number, dy: number, layout: Size, area: Size): View {
  return held({ ...view, left: view.left + dx, top: view.top + dy }, layout, area)
}

export function toLayout(view: View, { x, y }: Point): Point {
  return { x: (x - view.left) / view.scale, y: (y - view.top) / view.scale }
}

export function toScreen(view: View, { x, y }: Point): Point {
  return { x: view.left + x * view.scale, y: view.top + y * view.scale }
}

/** Keeps a part of the layout on the screen. */
function held(view: View, layout: Size, area: Size): View {
  const clamp = (start: number, length: number, room: number) => {
    const seen = Math.min(48, length, room)
    return Math.min(room - seen, Math.max(seen - length, start))
  }
  return {
    scale: view.scale,
    left: clamp(view.left, layout.width * view.scale, area.width),
    top: clamp(view.top, layout.height * view.scale, area.height),
  }
}
