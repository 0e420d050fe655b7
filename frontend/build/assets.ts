/** The last steps of a build: the page of the static site, and the manifest that ties the assets to their sources. */
import { createHash } from 'node:crypto'
import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join, relative, resolve, sep } from 'node:path'
import type { Plugin } from 'vite'

/** What the assets are made from; tests/studio/test_assets.py reads the same list. */
export const SOURCES = ['build', 'index.html', 'package-lock.json', 'package.json', 'public', 'src', 'tsconfig.json', 'vite.config.ts']

const POLICY =
  "default-src 'none'; img-src 'self'; style-src 'self'; script-src 'self' 'wasm-unsafe-eval'; " +
  "connect-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'none'"

/** Writes `static.html` and `manifest.json` beside `index.html` when a build is done. */
export function finishAssets(): Plugin {
  let out = ''
  return {
    name: 'finish-assets',
    apply: 'build',
    configResolved(config) {
      out = resolve(config.root, config.build.outDir)
    },
    closeBundle() {
      writeFileSync(join(out, 'static.html'), staticPage(readFileSync(join(out, 'index.html'), 'utf8')))
      writeFileSync(join(out, 'manifest.json'), manifest(process.cwd(), out))
    },
  }
}

/** The page that runs the model in the browser: it says so, and brings its own policy, as no server sends one. */
export function staticPage(page: string): string {
  const changed = page
    .replace('data-backend="server"', 'data-backend="browser"')
    .replace('<meta charset="utf-8">', `<meta charset="utf-8">\n    <meta http-equiv="Content-Security-Policy" content="${POLICY}">`)
  if (!changed.includes('data-backend="browser"') || !changed.includes(POLICY)) {
    throw new Error('index.html has no data-backend="server" or no <meta charset="utf-8">')
  }
  return changed
}

function manifest(root: string, out: string): string {
  const files = listed(out, '.').filter((name) => name !== 'manifest.json')
  const assets = Object.fromEntries(files.map((name) => [name, sha256(readFileSync(join(out, name)))]))
  return JSON.stringify({ sources: sourcesHash(root), assets }, null, 2) + '\n'
}

/** SHA-256 over name and content of each source, in the order of their names. */
export function sourcesHash(root: string): string {
  const names = SOURCES.flatMap((name) => listed(root, name)).sort()
  const hash = createHash('sha256')
  for (const name of names) hash.update(`${name} ${sha256(readFileSync(join(root, name)))}\n`)
  return hash.digest('hex')
}

function listed(root: string, name: string): string[] {
  const path = join(root, name)
  if (!statSync(path).isDirectory()) return [name]
  const inside = readdirSync(path, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile())
  return inside.map((entry) => relative(root, join(entry.parentPath, entry.name)).split(sep).join('/')).sort()
}

function sha256(content: Buffer): string {
  return createHash('sha256').update(content).digest('hex')
}
