import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import { Live } from '../src/live'

interface Call {
  signal: AbortSignal
  resolve: (value: string) => void
  reject: (error: Error) => void
}

let calls: Call[]
let events: string[]
let live: Live<string>
let isBusy: boolean

beforeEach(() => {
  vi.useFakeTimers()
  calls = []
  events = []
  const run = (signal: AbortSignal) => new Promise<string>((resolve, reject) => calls.push({ signal, resolve, reject }))
  live = new Live(run, {
    done: (result) => events.push(result),
    failed: (error) => events.push(String(error)),
    busy: (busy) => (isBusy = busy),
  })
})

afterEach(() => vi.useRealTimers())

it('several changes at once are one request', async () => {
  for (let change = 0; change < 5; change++) live.request(true)
  await vi.advanceTimersByTimeAsync(20)
  expect(calls).toHaveLength(1)
})

it('within a stroke, one request at a time and the newest at the end', async () => {
  for (let change = 0; change < 20; change++) {
    live.request(false)
    await vi.advanceTimersByTimeAsync(20)
  }
  expect(calls).toHaveLength(1)
  expect(calls[0].signal.aborted).toBe(false)
  calls[0].resolve('early')
  await vi.advanceTimersByTimeAsync(1)
  expect(events).toEqual(['early'])
  expect(calls).toHaveLength(2)
})

it('the end of a stroke cancels what is under way, whose answer no longer counts', async () => {
  live.request(false)
  await vi.advanceTimersByTimeAsync(100)
  live.request(true)
  await vi.advanceTimersByTimeAsync(20)
  expect(calls.map(({ signal }) => signal.aborted)).toEqual([true, false])
  calls[1].resolve('new')
  await vi.advanceTimersByTimeAsync(1)
  calls[0].resolve('stale')
  await vi.advanceTimersByTimeAsync(1)
  expect(events).toEqual(['new'])
  expect(isBusy).toBe(false)
})

it('goes on after a failure, and not after cancel', async () => {
  live.request(true)
  await vi.advanceTimersByTimeAsync(20)
  calls[0].reject(new Error('busy'))
  await vi.advanceTimersByTimeAsync(1)
  expect(events).toEqual(['Error: busy'])
  live.request(true, 1000)
  expect(isBusy).toBe(true)
  await vi.advanceTimersByTimeAsync(900)
  expect(calls).toHaveLength(1)
  live.cancel()
  expect(isBusy).toBe(false)
  await vi.advanceTimersByTimeAsync(900)
  expect(calls).toHaveLength(1)
})
