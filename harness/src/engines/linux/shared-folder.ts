/**
 * The folder that a Linux guest has by virtio-fs, with a DAX window: a session of our file server for each mount. Whether
 * the guest uses the window is an option of its mount.
 */
import {
  type FileSystem,
  type MessageResult,
  Session,
  type SessionOptions,
  VirtioFs,
} from "../../../../fs-server/src/index.ts";
import { WINDOW_BASE } from "../../../../vmm/src/index.ts";
import { SHARE_TAG } from "./plan.ts";
import { GuestWindow } from "./window.ts";

const WINDOW_BYTES: bigint = 64n * 2n ** 20n;

const noMount: MessageResult = { kind: "ended", reason: "no case has been mounted yet" };

export class SharedFolder {
  readonly kind = "folder";
  /** The window. */
  readonly memory: GuestWindow = new GuestWindow(WINDOW_BYTES);
  readonly device: VirtioFs;
  /** Of the mount that there is, or is next; null: there was none yet. */
  #session: Session | null = null;

  constructor() {
    const session = {
      handle: (...args: Parameters<Session["handle"]>) => this.#session?.handle(...args) ?? noMount,
      refuse: (...args: Parameters<Session["refuse"]>) => this.#session?.refuse(...args) ?? noMount,
      msUntilDue: () => this.#session?.msUntilDue() ?? null,
      handleDue: () => this.#session?.handleDue(),
      end: () => this.#session?.end(),
    };
    const window = { gpa: WINDOW_BASE, lengthBytes: WINDOW_BYTES };
    this.device = new VirtioFs({ session, tag: SHARE_TAG, window });
  }

  /** Serves the next mount. */
  serve(fs: FileSystem, { validity }: Required<Pick<SessionOptions, "validity">>): void {
    this.#session = new Session({ fs, window: this.memory, validity });
  }

  /** Every access to the window succeeds from now on. */
  loseFile(): void {
    this.memory.replaceByZeros(0n);
  }
}
