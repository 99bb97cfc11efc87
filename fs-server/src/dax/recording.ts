/** A window that maps nothing and remembers what it was asked: for tests, fuzzing and goldens. */
import type { DaxWindow, WindowFacts, WindowRange } from "./window.ts";

export type WindowCall =
  | {
      readonly kind: "map";
      readonly offsetBytes: bigint;
      readonly lengthBytes: bigint;
      readonly fileOffset: bigint;
      readonly writable: boolean;
    }
  | { readonly kind: "unmap"; readonly offsetBytes: bigint; readonly lengthBytes: bigint };

export class RecordingWindow implements DaxWindow {
  readonly sizeBytes: bigint;
  readonly alignmentBytes: bigint;
  readonly canMapPastEnd: boolean;
  readonly upgrades: WindowFacts["upgrades"];
  readonly calls: WindowCall[] = [];
  /** Thrown by the next `map`, once. */
  failNext: Error | null = null;

  constructor(
    sizeBytes: bigint,
    alignmentBytes: bigint = 4096n,
    { canMapPastEnd = true, upgrades = "remap" }: Partial<WindowFacts> = {},
  ) {
    this.sizeBytes = sizeBytes;
    this.alignmentBytes = alignmentBytes;
    this.canMapPastEnd = canMapPastEnd;
    this.upgrades = upgrades;
  }

  map(range: WindowRange, _fd: number, fileOffset: bigint, options: { readonly writable: boolean }): void {
    const failure = this.failNext;
    this.failNext = null;
    if (failure !== null) throw failure;
    const { offsetBytes, lengthBytes } = range;
    this.calls.push({ kind: "map", offsetBytes, lengthBytes, fileOffset, writable: options.writable });
  }

  unmap(range: WindowRange): void {
    this.calls.push({ kind: "unmap", offsetBytes: range.offsetBytes, lengthBytes: range.lengthBytes });
  }
}
