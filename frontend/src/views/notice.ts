import { byId } from '../dom'

let timer: ReturnType<typeof setTimeout> | undefined

/** A short message at the foot of the page, which goes by itself. */
export function notify(sentence: string): void {
  clearTimeout(timer)
  byId('notice').textContent = sentence
  timer = setTimeout(() => (byId('notice').textContent = ''), 2500 + 50 * sentence.length)
}

/** Runs something that may fail for a reason that a person can act upon, and says so. */
export async function attempt(action: () => Promise<void>): Promise<void> {
  try {
    await action()
  } catch (error) {
    const sentence = error instanceof Error ? error.message : String(error)
    notify(sentence.charAt(0).toUpperCase() + sentence.slice(1))
  }
}
