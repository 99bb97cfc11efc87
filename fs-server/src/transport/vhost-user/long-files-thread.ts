/** The thread that answers for the mount of long files (long-files.ts): names of descriptors, sizes without end, no content. */
import { parentPort, workerData } from "node:worker_threads";
import { files, nameThread } from "../../../../sys/src/index.ts";
import { Session } from "../../core/session.ts";
import { failure } from "../../fs/errors.ts";
import {
  type Attributes,
  type Entry,
  type FileHandle,
  type FileSystem,
  type NodeId,
  ROOT_NODE,
} from "../../fs/filesystem.ts";
import type { ComponentName } from "../../fs/names.ts";
import { NULL_FILE_SYSTEM } from "../../fs/null.ts";
import { deviceBackingFiles } from "../devfuse/device.ts";
import { serveDevice } from "../devfuse/loop.ts";

export type LongFilesThreadData = { readonly device: number };
export type LongFilesMessage = { readonly passesThrough: boolean };

/** Above every offset at which a file can be mapped with its range. */
const SIZE_BYTES = 2n ** 62n;
const NAME = /^([0-9]+)-([0-9]+)$/;

class DescriptorFiles {
  /** Descriptors by node. */
  readonly #fds = new Map<NodeId, number>();
  readonly #open = new Map<FileHandle, NodeId>();
  #handles = 0n;

  get fileSystem(): FileSystem {
    return {
      ...NULL_FILE_SYSTEM,
      lookup: (_parent, name) => this.#lookup(name),
      forget: (node) => void this.#fds.delete(node),
      getattr: (node) => (node === ROOT_NODE ? NULL_FILE_SYSTEM.getattr(node) : attributesOf(node)),
      open: (node) => this.#opened(node),
      release: (handle) => void this.#open.delete(handle),
      // So the kernel sends no other one (fuse_flush(), fc->no_flush). The last descriptor may be closed by the end of this very
      // process, when nobody answers any more: FLUSH would wait for ever, and the process could not end.
      flush: () => {
        throw failure("ENOSYS");
      },
      descriptorOf: (handle) => this.#descriptorOf(handle),
    };
  }

  #lookup(name: ComponentName): Entry {
    const [, count, fd] = NAME.exec(Buffer.from(name).toString("latin1").replace(/\0$/, "")) ?? [];
    if (count === undefined || fd === undefined) throw failure("ENOENT");
    const node = (BigInt(count) + ROOT_NODE) as NodeId;
    this.#fds.set(node, Number(fd));
    return { node, generation: 0n, attributes: attributesOf(node) };
  }

  #opened(node: NodeId): FileHandle {
    if (!this.#fds.has(node)) throw failure("ESTALE");
    this.#handles += 1n;
    const handle = this.#handles as FileHandle;
    this.#open.set(handle, node);
    return handle;
  }

  #descriptorOf(handle: FileHandle): number | null {
    const node = this.#open.get(handle);
    return node === undefined ? null : (this.#fds.get(node) ?? null);
  }
}

function attributesOf(node: NodeId): Attributes {
  return {
    ...NULL_FILE_SYSTEM.getattr(ROOT_NODE),
    ino: node,
    sizeBytes: SIZE_BYTES,
    mode: files.S_IFREG | 0o600,
    linkCount: 1,
    uid: process.geteuid?.() ?? 0,
    gid: process.getegid?.() ?? 0,
  };
}

function main({ device }: LongFilesThreadData): void {
  nameThread("daxfault-files");
  const session = new Session({
    fs: new DescriptorFiles().fileSystem,
    backingFiles: deviceBackingFiles(device),
    validity: { entryMs: 0, attributesMs: 0 },
    onInit: ({ flagNames }) => {
      const message: LongFilesMessage = { passesThrough: flagNames.includes("PASSTHROUGH") };
      parentPort?.postMessage(message);
    },
  });
  serveDevice({ fd: device, nowait: null, pipe: null }, session);
}

main(workerData as LongFilesThreadData);
