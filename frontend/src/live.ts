/**
 * When to ask for a new picture. A request within a stroke waits for the one that is under way, so that there is
 * something to see while painting; a request after a stroke is urgent: it cancels what is under way. Newest wins.
 */
export interface Outcome<Result> {
  done(result: Result): void
  failed(error: unknown): void
  /** Something is planned or under way, or no longer. */
  busy(busy: boolean): void
}

const PAUSE = 60 // milliseconds, within a stroke
const URGENT_PAUSE = 15 // several changes at once are one request

export class Live<Result> {
  private timer: ReturnType<typeof setTimeout> | undefined
  private due = Number.POSITIVE_INFINITY
  private running: AbortController | null = null
  private again = false

  constructor(
    private readonly run: (signal: AbortSignal) => Promise<Result>,
    private readonly outcome: Outcome<Result>,
  ) {}

  /** Something changed: asks soon for a picture of what is then the state. */
  request(urgent: boolean, pause = urgent ? URGENT_PAUSE : PAUSE): void {
    if (!urgent && this.running) {
      this.again = true
      return
    }
    const due = Date.now() + pause
    if (this.timer !== undefined && this.due <= due && !urgent) return
    this.wait(pause)
  }

  /** Drops what is under way or planned. */
  cancel(): void {
    clearTimeout(this.timer)
    this.timer = undefined
    this.again = false
    this.running?.abort()
    this.finish()
  }

  private wait(pause: number): void {
    clearTimeout(this.timer)
    this.outcome.busy(true)
    this.due = Date.now() + pause
    this.timer = setTimeout(() => void this.start(), pause)
  }

  private async start(): Promise<void> {
    this.timer = undefined
    this.again = false
    this.running?.abort()
    const own = new AbortController()
    this.running = own
    try {
      const result = await this.run(own.signal)
      if (this.running === own) this.outcome.done(result)
    } catch (error) {
      if (this.running === own) this.outcome.failed(error)
    }
    if (this.running === own) this.finish()
  }

  private finish(): void {
    this.running = null
    if (this.timer !== undefined) return
    if (this.again) this.wait(0)
    else this.outcome.busy(false)
  }
}
