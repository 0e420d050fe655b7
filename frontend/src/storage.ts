/** Keeps the work in this browser (IndexedDB), and finds it again after a reload. */
import { type Reference } from './backend/backend'
import { type Packed, pack, unpack } from './canvas/history'
import type { LabelMap } from './canvas/label-map'
import { className, type LabelSet } from './labels'

const DATABASE = 'segscape-studio'
const STORE = 'project'
const KEY = 'current'

interface StoredReference {
  name: string
  photo: Blob
  layout: Packed | null
}

/** Plain data, as the browser stores it. The names of the classes tell whether the layout still means the same. */
export interface Project {
  layout: Packed
  classes: string[]
  model: string
  other: string | null
  name: string
  seed: number
  samples: number
  resolution: string
  overlay: number
  value: number
  recent: number[]
  tool: string
  brush: { size: number; shape: string }
  style: StoredReference | null
  classStyles: [number, StoredReference][]
}

export async function saveProject(project: Project): Promise<void> {
  await inStore('readwrite', (store) => store.put(project, KEY))
}

/** The last project; null if there is none or this browser keeps nothing. */
export async function loadProject(): Promise<Project | null> {
  try {
    return ((await inStore('readonly', (store) => store.get(KEY))) as Project | undefined) ?? null
  } catch {
    return null
  }
}

/** The layout of a project in a label set, matched by the names of the classes; null if it does not fit. */
export function restoredLayout({ layout, classes }: Pick<Project, 'layout' | 'classes'>, labels: LabelSet): LabelMap | null {
  const known = new Map(labels.classes.map(({ name, index }) => [name, index]))
  const map = unpack(layout)
  const table = classes.map((name) => known.get(name) ?? labels.unknown ?? -1)
  const data = map.data.map((value) => table[value] ?? 0)
  return table.some((index, old) => index < 0 && map.data.includes(old)) ? null : { ...map, data }
}

export function packLayout(map: LabelMap, labels: LabelSet): Pick<Project, 'layout' | 'classes'> {
  return { layout: pack(map), classes: labels.classes.map(({ index }) => className(labels, index)) }
}

export function packReference({ name, photo, layout }: Reference): StoredReference {
  return { name, photo, layout: layout && pack(layout) }
}

export function unpackReference({ name, photo, layout }: StoredReference): Reference {
  return { name, photo, layout: layout && unpack(layout) }
}

async function inStore<T>(mode: IDBTransactionMode, use: (store: IDBObjectStore) => IDBRequest<T>): Promise<T> {
  const database = await open()
  try {
    return await settled(use(database.transaction(STORE, mode).objectStore(STORE)))
  } finally {
    database.close()
  }
}

function open(): Promise<IDBDatabase> {
  const request = indexedDB.open(DATABASE, 1)
  request.onupgradeneeded = () => request.result.createObjectStore(STORE)
  return settled(request)
}

function settled<T>(request: IDBRequest<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result)
    request.onerror = () => reject(request.error ?? new Error('this browser keeps no data'))
  })
}
