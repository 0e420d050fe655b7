/** The vocabulary of a layout, as the server describes it. */
export interface LabelClass {
  index: number
  name: string
  color: [number, number, number]
  thing: boolean
}

export interface LabelSet {
  name: string
  unknown: number | null
  classes: LabelClass[]
}

/** The name of a class, or what is there instead. */
export function className(labels: LabelSet, index: number): string {
  return labels.classes[index]?.name ?? `no class (${index})`
}

/** Classes whose name has all words of a query; names that begin with it come first. */
export function searchClasses(labels: LabelSet, query: string): LabelClass[] {
  const words = query.toLowerCase().split(/\s+/).filter(Boolean)
  const found = labels.classes.filter(({ name }) => words.every((word) => name.toLowerCase().includes(word)))
  if (!words.length) return found
  const rank = ({ name }: LabelClass) => (name.toLowerCase().startsWith(words[0]) ? 0 : 1)
  return found.sort((a, b) => rank(a) - rank(b) || a.index - b.index)
}

/** A packed colour -> the lowest index that has it. */
export function colorTable(labels: LabelSet): Map<number, number> {
  const table = new Map<number, number>()
  for (const { index, color } of labels.classes) {
    const code = packColor(color[0], color[1], color[2])
    if (!table.has(code)) table.set(code, index)
  }
  return table
}

export function packColor(red: number, green: number, blue: number): number {
  return (red << 16) | (green << 8) | blue
}

/** Whether two sets have the same classes in the same order, so that a layout of one is a layout of the other. */
export function sameClasses(a: LabelSet, b: LabelSet): boolean {
  return a.classes.length === b.classes.length && a.classes.every(({ name }, index) => name === b.classes[index].name)
}
