/** The file inputs of the page. */
import { input } from '../dom'

/** Opens the chooser of a file input. Nothing follows if the person gives up. */
export function chooseFile(id: 'layout-file' | 'photo-file'): Promise<File> {
  const element = input(id)
  element.value = ''
  return new Promise((resolve) => {
    element.onchange = () => element.files?.[0] && resolve(element.files[0])
    element.click()
  })
}
