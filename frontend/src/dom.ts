/** The element with an id; throws if the page has none or it is of another kind. */
export function byId<T extends Element = HTMLElement>(id: string, kind?: new () => T): T {
  const found = document.getElementById(id)
  if (!found || (kind && !(found instanceof kind))) throw new Error(`the page has no #${id}`)
  return found as unknown as T
}

export const button = (id: string) => byId(id, HTMLButtonElement)
export const input = (id: string) => byId(id, HTMLInputElement)
export const select = (id: string) => byId(id, HTMLSelectElement)
export const dialog = (id: string) => byId(id, HTMLDialogElement)

type Content = string | Node | null | false

/** A new element with attributes and content. Text stays text: nothing is parsed as HTML. */
export function make<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Record<string, string> = {},
  ...content: Content[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag)
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value)
  element.append(...content.filter((item): item is string | Node => item !== null && item !== false))
  return element
}

/** The options of a select element; keeps the chosen value where it is still there. */
export function setOptions(element: HTMLSelectElement, options: { value: string; text: string }[], chosen: string): void {
  element.replaceChildren(...options.map(({ value, text }) => make('option', { value }, text)))
  element.value = options.some((option) => option.value === chosen) ? chosen : (options[0]?.value ?? '')
}

export function cssColor([red, green, blue]: readonly number[]): string {
  return `rgb(${red} ${green} ${blue})`
}

/** The 2D context of a canvas. */
export function context(canvas: HTMLCanvasElement): CanvasRenderingContext2D {
  const found = canvas.getContext('2d')
  if (!found) throw new Error('this browser has no 2D canvas')
  return found
}
