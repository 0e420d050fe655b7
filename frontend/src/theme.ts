/** Light, dark, or as the system has it. */
import { button } from './dom'

const THEMES = ['system', 'light', 'dark'] as const
const KEY = 'segscape-theme'

export function showTheme(): void {
  const read = () => THEMES.find((theme) => theme === localStorage.getItem(KEY)) ?? 'system'
  const show = () => {
    const theme = read()
    document.documentElement.dataset.theme = theme
    const text = theme === 'system' ? 'as the system' : theme
    button('theme').setAttribute('aria-label', `Colours of the page: ${text}`)
    button('theme').title = `Light or dark: ${text}`
  }
  button('theme').addEventListener('click', () => {
    localStorage.setItem(KEY, THEMES[(THEMES.indexOf(read()) + 1) % THEMES.length])
    show()
  })
  show()
}
