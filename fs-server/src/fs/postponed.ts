/**
 * "Not now", the third way out of a file system's method beside a result and a FileSystemError.
 *
 * The session keeps the request and serves it again after `delayMs`. It calls `redeem` just before, so that the file
 * system lets the second attempt through.
 */
export class Postponed extends Error {
  override readonly name = "Postponed";
  readonly delayMs: number;
  readonly redeem: () => void;

  constructor(delayMs: number, redeem: () => void) {
    super(`postponed by ${delayMs} ms`);
    this.delayMs = delayMs;
    this.redeem = redeem;
  }
}
