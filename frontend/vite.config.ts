import { defineConfig } from 'vitest/config'
import { finishAssets } from './build/assets.ts'

export default defineConfig({
  base: './', // the static site may lie in any folder
  plugins: [finishAssets()],
  worker: { format: 'es' },
  build: {
    outDir: '../src/segscape/studio/assets',
    emptyOutDir: true,
    assetsInlineLimit: 0, // the content security policy allows no data: addresses
    target: 'es2022',
    modulePreload: { polyfill: false },
  },
  server: { proxy: { '/api': 'http://127.0.0.1:8760' } }, // `segscape studio` beside `npm run dev`
  test: { include: ['tests/**/*.test.ts'], environment: 'node' },
})
