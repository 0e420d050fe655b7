const SENT_AS_IS = ['image/png', 'image/jpeg', 'image/webp']
const LARGEST_FILE = 4_000_000 // bytes
const LONGEST_SIDE = 1536 // pixels; encoders look at a few hundred

/** A photo as the server takes it: PNG, JPEG or WebP, not larger than it helps. Raises an Error for other files. */
export async function preparePhoto(file: Blob, longest = LONGEST_SIDE): Promise<Blob> {
  const image = await decoded(file)
  const factor = Math.min(1, longest / Math.max(image.width, image.height))
  if (factor === 1 && SENT_AS_IS.includes(file.type) && file.size <= LARGEST_FILE) return file
  const canvas = new OffscreenCanvas(Math.round(image.width * factor), Math.round(image.height * factor))
  const context = canvas.getContext('2d')
  if (!context) throw new Error('this browser has no 2D canvas')
  context.imageSmoothingQuality = 'high'
  context.drawImage(image, 0, 0, canvas.width, canvas.height)
  return canvas.convertToBlob({ type: 'image/jpeg', quality: 0.94 })
}

async function decoded(file: Blob): Promise<ImageBitmap> {
  try {
    return await createImageBitmap(file)
  } catch {
    throw new Error('this file is not a picture that the browser can read')
  }
}
