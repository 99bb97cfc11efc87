/** The DAX window of a front-end (in work). */
import type { RemoteAnswers, WindowRequest } from "./remote-mappings.ts";

/** Mappings at once: each is one of the front-end's memory regions, of which it has 509 with RAM. */
export const MAX_MAPPINGS = 480;

export interface WindowOwner {
  readonly sizeBytes: bigint;
  /** Of LentFiles. */
  readonly lent: SharedArrayBuffer;
  readonly answers: RemoteAnswers;
  /** A front-end has come. 0: its process cannot be seen from here. */
  frontEnd(pid: number): void;
  /** The channel to it. */
  opened(fd: number): void;
  serve(request: WindowRequest): void;
  /** It has left: who waits gets an error. */
  closed(): void;
  /** Resolves when nothing of the window is left. */
  emptied(): Promise<void>;
}
