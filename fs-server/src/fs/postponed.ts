/**
 * "Not now", the third way out of a file system's method beside a result and a FileSystemError.
 *
 * The session keeps the request and serves it again after `delayMs`. It calls `redeem` just before, so that the file
 * system lets the second attempt through, and `over` once: after that attempt, which may be postponed again, or when there
 * will be none (interrupted, too many, no client any more).
 */
export class Postponed extends Error {
  override readonly name = "Postponed";
  readonly delayMs: number;
  readonly redeem: () => void;
  readonly over: () => void;

  constructor(delayMs: number, redeem: () => void, over: () => void = () => undefined) {
    super(`postponed by ${delayMs} ms`);
    this.delayMs = delayMs;
    this.redeem = redeem;
    this.over = over;
  }
}
