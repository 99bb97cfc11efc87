/**
 * Files on their way into the DAX window: opened by the thread that serves the request, owned by the main thread from then on. An
 * open(2) of a source that hangs holds up its own request, which a signal can end, and none of another file. The main thread
 * closes them in the background, since close(2) may wait for the source as well (FUSE_FLUSH).
 */
import { close, fstatSync } from "node:fs";
import { files } from "../../../../sys/src/index.ts";
import type { FileSystem, NodeId } from "../../fs/filesystem.ts";

/** How files get into a window that refuses what reaches past their end. */
export interface Lender {
  /** Whether what it lends may be mapped past the end of the file. */
  readonly canMapPastEnd: boolean;
  /** A descriptor of the same pages, the caller's to close; null: this one cannot be lent so. */
  lend(fd: number): number | null;
}

export type OpenDescriptor = { readonly fd: number; readonly dev: bigint; readonly ino: bigint };

export type HandedFile = {
  readonly source: OpenDescriptor;
  /** What the front-end gets; null: the source itself. */
  readonly lent: OpenDescriptor | null;
};

export function describe(fd: number): OpenDescriptor {
  const { dev, ino } = fstatSync(fd, { bigint: true });
  return { fd, dev, ino };
}

/** Of a descriptor that is closed where it cannot be described. */
function owned(fd: number): OpenDescriptor {
  try {
    return describe(fd);
  } catch (error) {
    files.close(fd);
    throw error;
  }
}

/** A file that is to be mapped. Throws as open(2) fails. */
export function openForWindow(fs: FileSystem, node: NodeId): OpenDescriptor {
  return owned(fs.openForMapping(node, { writable: true }).fd);
}

export function lentBy(lender: Lender | null, fd: number): OpenDescriptor | null {
  const lent = lender?.lend(fd) ?? null;
  return lent === null ? null : owned(lent);
}

export function closeHanded({ source, lent }: HandedFile): void {
  if (lent !== null) closeAside(lent.fd);
  closeAside(source.fd);
}

function closeAside(fd: number): void {
  // Whatever it says, the descriptor is free (close(2)).
  close(fd, () => undefined);
}

/** A file that came with a request: closed with it, unless it is taken. */
export class Offered {
  #file: HandedFile | null;

  constructor(file: HandedFile | null) {
    this.#file = file;
  }

  take(): HandedFile | null {
    const file = this.#file;
    this.#file = null;
    return file;
  }

  close(): void {
    const file = this.take();
    if (file !== null) closeHanded(file);
  }
}
