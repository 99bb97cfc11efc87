/**
 * The DAX window of a front-end: files appear in it by SHMEM_MAP. By the main thread, for all threads that serve; nothing here
 * blocks: the thread that asks opens the file (handed-files.ts). One front-end at a time.
 *
 * Every mapping is writable: QEMU maps files for writing whatever it is told, and replaces no mapping by another one. An empty
 * file is never passed: QEMU would make it as long as the mapping (file_ram_alloc()).
 */
import { fstat } from "node:fs";
import { files } from "../../../../sys/src/index.ts";
import { type DaxMapping, MappingTable, type Removal } from "../../dax/table.ts";
import type { WindowFacts } from "../../dax/window.ts";
import { FileSystemError, failure } from "../../fs/errors.ts";
import type { FileSystem, NodeId } from "../../fs/filesystem.ts";
import { DEFAULT_BOUND_MS, type GuardedFile, type TruncationGuard } from "../../guard/truncation-guard.ts";
import { BackendChannel } from "./backend-channel.ts";
import {
  closeHanded,
  describe,
  type HandedFile,
  lentBy,
  Offered,
  type OpenDescriptor,
  openForWindow,
} from "./handed-files.ts";
import { LentFiles } from "./lent-files.ts";
import type { LongFiles } from "./long-files.ts";
import { mapsKeyOf, PeerMaps } from "./peer-maps.ts";
import {
  answerTo,
  type RemoteAnswers,
  remoteAnswersMemory,
  type SetupRequest,
  ShortMappings,
  WANTS_FILE,
  type WindowAnswer,
  type WindowRequest,
} from "./remote-mappings.ts";
import { type Entry, pagesUp, sum, WindowFile } from "./window-file.ts";

/** Mappings at once: each is one of the front-end's memory regions, of which it has 509 with RAM. */
export const MAX_MAPPINGS = 480;
const PAGE = 4096n;
/** A file whose last mapping was removed is kept this long: the guest often wants the next part of it. */
const IDLE_MS = 200;

export type WindowOptions = {
  readonly sizeBytes: bigint;
  /** null: files are passed as they are. */
  readonly lender: LongFiles | null;
  /** null: a truncation by the host ends the VMM. */
  readonly guard: TruncationGuard | null;
  readonly log: (line: string) => void;
};

const DONE: WindowAnswer = { errno: 0 };
/** Of a file that is mapped past its end, whatever that is. */
const NO_END = 2n ** 63n - 1n;

function sizeOf(fd: number): Promise<bigint> {
  return new Promise((resolve, reject) => {
    fstat(fd, { bigint: true }, (error, stats) => (error === null ? resolve(stats.size) : reject(error)));
  });
}

type OpenedFile = {
  readonly key: string;
  /** By which it is guarded, and its size is asked for. */
  readonly guardedFd: number;
  /** null: not guarded. */
  readonly mapsKey: string | null;
  readonly file: WindowFile;
  idle: NodeJS.Timeout | null;
  close(): void;
};

type Mapped = { readonly entry: Entry; readonly opened: OpenedFile; readonly ready: Promise<boolean> };

export class WindowOwner implements WindowFacts {
  readonly alignmentBytes: bigint = PAGE;
  readonly canMapPastEnd: boolean;
  readonly upgrades = "always-writable" as const;
  readonly sizeBytes: bigint;
  readonly lent: SharedArrayBuffer = LentFiles.memory(MAX_MAPPINGS);
  readonly answers: RemoteAnswers;
  readonly #options: WindowOptions;
  readonly #lentFiles = new LentFiles(this.lent);
  readonly #freeSlots = Array.from({ length: MAX_MAPPINGS }, (_, i) => MAX_MAPPINGS - 1 - i);
  readonly #short: ShortMappings;
  #fs: FileSystem | null = null;
  #channel: BackendChannel | null = null;
  #peer = new PeerMaps(0);
  #table: MappingTable;
  readonly #mapped = new Map<DaxMapping, Promise<Mapped>>();
  readonly #files = new Map<string, Promise<OpenedFile>>();
  /** Those that were opened here, by node. */
  readonly #leases = new Map<NodeId, Promise<OpenedFile>>();
  /** Those of `#files` that are open. */
  readonly #settledFiles = new Set<OpenedFile>();
  #hasSaid = false;
  /** The process that is looked at maps what it is given. */
  #isProven = false;

  constructor(options: WindowOptions) {
    this.#options = options;
    this.sizeBytes = options.sizeBytes;
    this.canMapPastEnd = options.lender?.canMapPastEnd ?? false;
    const memory = remoteAnswersMemory();
    const short = ShortMappings.memory(MAX_MAPPINGS);
    const { guard, lender } = options;
    this.answers = {
      memory,
      short,
      alignmentBytes: PAGE,
      opensByGuard: this.opensByGuard,
      // Of what is sealed the copy is lent.
      longFiles: guard?.name === "sealed" ? null : (lender?.mount ?? null),
    };
    this.#short = new ShortMappings(this.answers.short);
    this.#table = new MappingTable(this);
  }

  /** The kernel's leases suffer one description of a file alone: the guest opens that one. */
  get opensByGuard(): boolean {
    return this.#options.guard?.name === "kernel-lease";
  }

  /** @param fs over the tables of the threads that serve */
  attach(fs: FileSystem): void {
    this.#fs = fs;
  }

  /** A front-end has come. 0: its process cannot be seen from here. */
  frontEnd(pid: number): void {
    this.#peer = new PeerMaps(pid);
    this.#isProven = false;
    const refusal = this.#options.guard === null ? null : this.#peer.refusal();
    if (refusal !== null) this.#options.log(`no file will be mapped, since none can be guarded: ${refusal}`);
  }

  /** The channel to it. */
  opened(fd: number): void {
    this.#channel?.close();
    this.#channel = new BackendChannel(fd, (reason) => {
      if (reason !== "closed") this.#options.log(`the channel to the front-end is gone: ${reason}`);
    });
  }

  serve(request: WindowRequest): void {
    void this.#served(request).then((answer) => answerTo(this.answers.memory, request, answer));
  }

  /** It has left: who waits gets an error. */
  closed(): void {
    this.#channel?.close();
    this.#channel = null;
    for (const opened of this.#files.values())
      void opened.then(
        ({ file }) => file.end(),
        () => undefined,
      );
  }

  /** Resolves when nothing of the window is left. */
  async emptied(): Promise<void> {
    const files = [...this.#files.values()];
    this.#files.clear();
    this.#leases.clear();
    this.#mapped.clear();
    this.#table = new MappingTable(this);
    this.#short.clear();
    for (const opened of files)
      await opened.then(
        (file) => {
          if (file.idle !== null) clearTimeout(file.idle);
          file.close();
        },
        () => undefined,
      );
  }

  async #served(request: WindowRequest): Promise<WindowAnswer> {
    const offered = new Offered(request.kind === "setup" ? request.file : null);
    try {
      switch (request.kind) {
        case "setup":
          return await this.#setup(request, offered);
        case "remove":
          await this.#remove(request.removals);
          return DONE;
        case "remove-all":
          await this.#removeAll();
          return DONE;
        case "grown":
          await this.#grown(request.node);
          return DONE;
        case "open":
          return { errno: 0, fd: (await this.#leased(request.node)).guardedFd };
        default:
          return request satisfies never;
      }
    } catch (error) {
      if (error instanceof FileSystemError) return { errno: error.errno };
      this.#options.log(`the DAX window: ${error instanceof Error ? error.message : error}`);
      return { errno: failure("EIO").errno };
    } finally {
      offered.close();
    }
  }

  async #setup({ request, of }: SetupRequest, offered: Offered): Promise<WindowAnswer> {
    const needed = this.#table.needed(request);
    if (needed === null) {
      const present = this.#table.at(request.windowOffset);
      const mapped = present === null ? undefined : this.#mapped.get(present);
      if (mapped === undefined || !(await (await mapped).ready)) throw failure("EIO");
      return DONE;
    }
    if (this.#table.size >= MAX_MAPPINGS) throw failure("ENOSPC");
    const file = of === null ? this.#leased(request.node) : this.#file(of, offered);
    if (file === null) return { errno: WANTS_FILE };
    // At once: the next request sees it, and waits for it.
    this.#table.add(needed);
    const mapping = this.#begin(needed, file);
    this.#mapped.set(needed, mapping);
    try {
      const { ready, opened } = await mapping;
      if (!(await ready)) throw failure("EIO");
      this.#prove(opened);
      return DONE;
    } catch (error) {
      this.#table.delete(needed);
      this.#mapped.delete(needed);
      throw error;
    }
  }

  /**
   * The barrier looks at the process that has connected. It is none where another one has passed its connection on to the VMM, as
   * a manager may.
   */
  #prove({ mapsKey }: OpenedFile): void {
    if (mapsKey === null || this.#isProven) return;
    if (this.#peer.hasMapped(mapsKey)) {
      this.#isProven = true;
      return;
    }
    throw new Error(
      "the process that has connected is not the one that maps: no recall of its mappings could be waited for. " +
        "Next: let the VMM itself connect to --socket-path, or serve without --guard",
    );
  }

  async #begin(mapping: DaxMapping, file: Promise<OpenedFile>): Promise<Mapped> {
    const opened = await file;
    if (opened.idle !== null) clearTimeout(opened.idle);
    opened.idle = null;
    const entry: Entry = { mapping, pieces: [] };
    const ready = opened.file.map(entry).then((isMapped) => {
      if (!isMapped) this.#idle(opened);
      return isMapped;
    });
    return { entry, opened, ready };
  }

  /** A file, guarded once. null: it is not here, and is not offered. */
  #file(of: OpenDescriptor, offered: Offered): Promise<OpenedFile> | null {
    const key = `${of.dev}:${of.ino}`;
    const known = this.#files.get(key);
    if (known !== undefined) return known;
    const taken = offered.take();
    if (taken === null) return null;
    const opening = this.#opened(key, taken);
    this.#files.set(key, opening);
    opening.catch(() => {
      if (this.#files.get(key) === opening) this.#files.delete(key);
    });
    return opening;
  }

  /** The file of a node, opened here: while a lease is taken, and as long as it is held, no other thread may open it. */
  #leased(node: NodeId): Promise<OpenedFile> {
    const known = this.#leases.get(node);
    if (known !== undefined) return known;
    const fs = this.#fs;
    if (fs === null) throw failure("EIO");
    const source = openForWindow(fs, node);
    const offered = new Offered({ source, lent: null });
    const file = this.#file(source, offered);
    offered.close();
    if (file === null) throw failure("EIO");
    this.#leases.set(node, file);
    file.catch(() => {
      if (this.#leases.get(node) === file) this.#leases.delete(node);
    });
    return file;
  }

  async #opened(key: string, taken: HandedFile): Promise<OpenedFile> {
    const { guard, lender, log } = this.#options;
    const channel = this.#channel;
    const slot = this.#freeSlots.pop();
    const undo: (() => void)[] = [() => closeHanded(taken)];
    const close = (): void => {
      for (const step of undo.splice(0).reverse()) step();
    };
    try {
      if (channel === null || slot === undefined) throw failure("EIO");
      undo.push(() => this.#freeSlots.push(slot));
      // The guard wants its holder before there is a descriptor to map.
      let holder: WindowFile | null = null;
      const armed = await this.#armed(taken.source, () => holder);
      if (armed !== null) undo.push(() => armed.disarm());
      const guarded = armed === null || armed.fd === taken.source.fd ? taken.source : describe(armed.fd);
      const copy = guarded === taken.source ? null : lentBy(lender, guarded.fd);
      if (copy !== null) undo.push(() => void files.close(copy.fd));
      const lent = copy ?? taken.lent;
      const { fd } = lent ?? guarded;
      const pastEnd = lent !== null && lender?.canMapPastEnd === true;
      this.#lentFiles.lend(slot, lent ?? guarded);
      const mapsKey = guard === null ? null : mapsKeyOf(fd);
      holder = new WindowFile({
        fd,
        channel,
        log,
        size: pastEnd && guard === null ? () => Promise.resolve(NO_END) : () => sizeOf(guarded.fd),
        reach: (mapping, size) => this.#reach(mapping, size, pastEnd),
        barrier: async (fromBytes) => {
          if (mapsKey !== null) await this.#peer.vanished(mapsKey, fromBytes, DEFAULT_BOUND_MS);
        },
        onChange: () => this.#listShort(),
      });
      const opened: OpenedFile = { key, guardedFd: guarded.fd, mapsKey, file: holder, idle: null, close };
      this.#settledFiles.add(opened);
      undo.push(() => this.#settledFiles.delete(opened));
      return opened;
    } catch (error) {
      close();
      throw error;
    }
  }

  /** Guards a file, if that is wanted. A recall before there is a holder has nothing to take away. */
  async #armed(source: GuardedFile, holder: () => WindowFile | null) {
    const { guard } = this.#options;
    if (guard === null) return null;
    const refusal = this.#peer.refusal();
    if (refusal !== null) throw new Error(refusal);
    return await guard.arm(source, {
      recall: (threat) => holder()?.recall(threat),
      settle: (size) => holder()?.settle(size),
      cutOff: (reason) => holder()?.cutOff(reason),
    });
  }

  /** Bytes of a range that can be mapped when its file has this size. */
  #reach({ fileOffset, range }: DaxMapping, size: bigint, pastEnd: boolean): bigint {
    const left = size - fileOffset;
    const whole = pastEnd ? pagesUp(left) : left <= 0n ? 0n : left - (left % PAGE);
    if (whole >= range.lengthBytes) return range.lengthBytes;
    if (!pastEnd && left > 0n && left % PAGE !== 0n) this.#sayOnce();
    // Part of a page cannot be mapped, and without it the guest would read zeros there.
    return !pastEnd && left > 0n && left % PAGE !== 0n ? 0n : whole;
  }

  #sayOnce(): void {
    if (this.#hasSaid) return;
    this.#hasSaid = true;
    this.#options.log(
      "QEMU maps no file whose last page is not whole: such files cannot be read with DAX " +
        "(Next: root and Linux 6.9 with FUSE_PASSTHROUGH, or mount with -o dax=inode or dax=never)",
    );
  }

  async #remove(removals: readonly Removal[]): Promise<void> {
    await Promise.all(this.#table.covered(removals).map((mapping) => this.#take(mapping)));
  }

  async #removeAll(): Promise<void> {
    await Promise.all(this.#table.list().map((mapping) => this.#take(mapping)));
  }

  async #take(mapping: DaxMapping): Promise<void> {
    const mapped = await this.#mapped.get(mapping)?.catch(() => undefined);
    if (mapped !== undefined) {
      await mapped.ready;
      await mapped.opened.file.remove(mapped.entry);
      this.#idle(mapped.opened);
    }
    this.#mapped.delete(mapping);
    this.#table.delete(mapping);
    this.#listShort();
  }

  #idle(opened: OpenedFile): void {
    // The guest's open files share the description of a file that is leased.
    if (opened.file.entries.size > 0 || this.opensByGuard) return;
    if (opened.idle !== null) clearTimeout(opened.idle);
    opened.idle = setTimeout(() => {
      this.#files.delete(opened.key);
      opened.close();
    }, IDLE_MS);
  }

  async #grown(node: NodeId): Promise<void> {
    const files = new Set<WindowFile>();
    for (const [mapping, mapped] of this.#mapped) {
      if (mapping.node === node) files.add((await mapped).opened.file);
    }
    for (const file of files) await file.grown();
  }

  /** For the threads that serve: which nodes have mappings that are to grow with their files. */
  #listShort(): void {
    const nodes: NodeId[] = [];
    for (const opened of this.#settledFiles) {
      for (const { mapping, pieces } of opened.file.entries) {
        if (sum(pieces) < mapping.range.lengthBytes) nodes.push(mapping.node);
      }
    }
    this.#short.set(nodes);
  }
}
