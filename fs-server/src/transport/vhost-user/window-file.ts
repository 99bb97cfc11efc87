/**
 * One file in the DAX window of a front-end: its mappings there, and their recall.
 *
 * A mapping of the window may be fewer bytes than the guest asked for, from its start: what the file has (SHMEM_MAP of more is
 * refused), or what a truncation has left. It grows by pieces, since SHMEM_UNMAP takes whole ones only. Changes of one
 * file are made one after the other; while it is recalled, who wants a mapping waits.
 *
 * Between recall and settle a guest's load of the range gives zeros and a store is lost: QEMU has nothing there.
 */
import type { DaxMapping } from "../../dax/table.ts";
import type { MappingHolder, Threat } from "../../guard/truncation-guard.ts";
import type { BackendChannel } from "./backend-channel.ts";

const PAGE = 4096n;

/** Pages of a file that begin before `bytes`, in bytes. */
export function pagesUp(bytes: bigint): bigint {
  return bytes <= 0n ? 0n : ((bytes + PAGE - 1n) / PAGE) * PAGE;
}

export type Entry = {
  readonly mapping: DaxMapping;
  /** Mapped now, from the mapping's start, one behind the other. */
  readonly pieces: bigint[];
};

export type WindowFileOptions = {
  /** Given to the front-end. */
  readonly fd: number;
  readonly channel: BackendChannel;
  /** Bytes of `mapping` that can be mapped when the file has this size; whole pages. */
  readonly reach: (mapping: DaxMapping, sizeBytes: bigint) => bigint;
  /** The file's size now. It may take as long as the source likes. */
  readonly size: () => Promise<bigint>;
  /** Resolves when the front-end has nothing of the file behind `fromBytes`. */
  readonly barrier: (fromBytes: bigint) => Promise<void>;
  /** Which mappings are shorter than asked for has changed. */
  readonly onChange: () => void;
  readonly log: (line: string) => void;
};

export class WindowFile implements MappingHolder {
  readonly entries: Set<Entry> = new Set();
  readonly #options: WindowFileOptions;
  #chain: Promise<unknown> = Promise.resolve();
  #held: { readonly over: Promise<void>; readonly release: () => void } | null = null;
  #cut: string | null = null;
  /** While it was recalled: what it is settled with may have been read before that. */
  #hasGrown = false;

  constructor(options: WindowFileOptions) {
    this.#options = options;
  }

  /** Why nothing is mapped any more; null: it is. */
  get cut(): string | null {
    return this.#cut;
  }

  /** Maps a range. False: the front-end, or the file's size, does not allow it. */
  async map(entry: Entry): Promise<boolean> {
    for (;;) {
      const held = this.#held;
      if (held !== null) await held.over;
      if (this.#cut !== null) return false;
      const result = await this.#serially(async () => {
        if (this.#held !== null) return "again" as const;
        this.entries.add(entry);
        // Before the size is read: from here on who makes the file longer says so.
        this.#options.onChange();
        return await this.#extend(entry, await this.#size());
      });
      if (result === "again") continue;
      if (!result) {
        this.entries.delete(entry);
        this.#options.onChange();
      }
      return result;
    }
  }

  /** Takes a range away. */
  remove(entry: Entry): Promise<void> {
    return this.#serially(async () => {
      this.entries.delete(entry);
      await this.#shorten(entry, 0n);
    });
  }

  /** The file may have grown, and the guest knows. */
  grown(): Promise<void> {
    return this.#serially(async () => {
      this.#hasGrown = this.#held !== null;
      if (this.#held !== null || this.#cut !== null) return;
      const size = await this.#size();
      for (const entry of this.entries) await this.#extend(entry, size);
    });
  }

  async recall({ fromBytes }: Threat): Promise<void> {
    this.#hold();
    const from = pagesUp(fromBytes);
    await this.#serially(async () => {
      for (const entry of this.entries) await this.#shorten(entry, from - entry.mapping.fileOffset);
    });
    await this.#options.barrier(from);
  }

  settle(sizeBytes: bigint): void {
    void this.#serially(async () => {
      for (const entry of this.entries) {
        await this.#shorten(entry, pagesUp(sizeBytes - entry.mapping.fileOffset));
        await this.#extend(entry, sizeBytes);
      }
      this.#release();
      if (this.#hasGrown) void this.grown();
    });
  }

  cutOff(reason: string): void {
    this.#cut = reason;
    this.#options.log(`a file in the DAX window is guarded no more, and not mapped any more: ${reason}`);
    void this.#serially(async () => {
      for (const entry of this.entries) await this.#shorten(entry, 0n);
      this.#release();
    });
  }

  /** Nothing is mapped any more, by the front-end's end: who waits goes on. */
  end(): void {
    this.#cut ??= "the front-end has left";
    this.#release();
  }

  #hold(): void {
    if (this.#held !== null) return;
    let release: () => void = () => undefined;
    const over = new Promise<void>((resolve) => {
      release = resolve;
    });
    this.#held = { over, release };
  }

  #release(): void {
    this.#held?.release();
    this.#held = null;
  }

  #serially<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#chain.then(work);
    this.#chain = result.catch((error) => this.#options.log(`defect of the DAX window: ${error}`));
    return result;
  }

  async #size(): Promise<bigint> {
    try {
      return await this.#options.size();
    } catch (error) {
      // It may be closed by now.
      if (this.#cut !== null) return 0n;
      throw error;
    }
  }

  /** Maps what can be mapped and is not. False: nothing of the range can. */
  async #extend(entry: Entry, sizeBytes: bigint): Promise<boolean> {
    const { channel, fd, reach, onChange } = this.#options;
    const { mapping, pieces } = entry;
    const open = sum(pieces);
    const target = reach(mapping, sizeBytes);
    if (target <= open) return open > 0n;
    const lengthBytes = target - open;
    const answer = await channel.map({
      fd,
      fdOffset: mapping.fileOffset + open,
      windowOffset: mapping.range.offsetBytes + open,
      lengthBytes,
    });
    if (answer === "done") pieces.push(lengthBytes);
    else this.#options.log(`the VMM maps no ${lengthBytes} bytes at ${mapping.fileOffset + open}: ${answer}`);
    onChange();
    return answer === "done";
  }

  /** Unmaps the pieces that reach behind `keepBytes` of the range. */
  async #shorten({ mapping, pieces }: Entry, keepBytes: bigint): Promise<void> {
    for (let end = sum(pieces); end > keepBytes && pieces.length > 0; end = sum(pieces)) {
      const lengthBytes = pieces.pop() ?? 0n;
      const at = mapping.range.offsetBytes + end - lengthBytes;
      const answer = await this.#options.channel.unmap(at, lengthBytes);
      // A guest that was reset has lost its mappings already. Whether one is left is the barrier's to see.
      if (answer === "no answer") return;
      this.#options.onChange();
    }
  }
}

export function sum(pieces: readonly bigint[]): bigint {
  return pieces.reduce((bytes, piece) => bytes + piece, 0n);
}
