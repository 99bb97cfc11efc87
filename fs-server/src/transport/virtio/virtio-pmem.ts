/**
 * The persistent memory device (virtio 1.2, 5.19): a file that is the guest's memory, and its fsync(2).
 *
 * The memory is the VMM's: a region of kind `window` at `start`, since the file may be truncated.
 */
import type { QueueRequest, SharedMemory, VirtioDevice } from "./device.ts";
import { copyIn, copyOut } from "./memory.ts";

const CONFIG_BYTES = 16;
const QUEUE_SIZE = 64;
const WORD_BYTES = 4;
const VIRTIO_PMEM_REQ_TYPE_FLUSH = 0;
const VIRTIO_PMEM_RESP_TYPE_OK = 0;
const VIRTIO_PMEM_RESP_TYPE_EIO = 1;

export type VirtioPmemOptions = {
  /** Where the guest sees the file. */
  readonly gpa: bigint;
  readonly lengthBytes: bigint;
  /** fsync(2) of the file: 0, or a negative errno. */
  readonly flush: () => number;
};

export class VirtioPmem implements VirtioDevice {
  readonly id = 27;
  readonly features = 0n;
  readonly config: Uint8Array;
  readonly queueSizes: readonly number[] = [QUEUE_SIZE];
  readonly sharedMemory: readonly SharedMemory[] = [];
  readonly #flush: () => number;

  constructor({ gpa, lengthBytes, flush }: VirtioPmemOptions) {
    this.config = new Uint8Array(CONFIG_BYTES);
    const view = new DataView(this.config.buffer);
    view.setBigUint64(0, gpa, true);
    view.setBigUint64(8, lengthBytes, true);
    this.#flush = flush;
  }

  serve(_queue: number, request: QueueRequest): void {
    const { readable, readableBytes, writable, writableBytes } = request.chain;
    const words = new DataView(new ArrayBuffer(WORD_BYTES));
    const bytes = new Uint8Array(words.buffer);
    const isWhole = readableBytes >= WORD_BYTES && writableBytes >= WORD_BYTES;
    if (!isWhole || !copyIn(readable, bytes)) {
      request.complete(0);
      return;
    }
    const isFlush = words.getUint32(0, true) === VIRTIO_PMEM_REQ_TYPE_FLUSH;
    const isDone = isFlush && this.#flush() === 0;
    words.setUint32(0, isDone ? VIRTIO_PMEM_RESP_TYPE_OK : VIRTIO_PMEM_RESP_TYPE_EIO, true);
    request.complete(copyOut(writable, bytes) ? WORD_BYTES : 0);
  }

  msUntilDue(): number | null {
    return null;
  }

  handleDue(): void {
    // Nothing is kept for later.
  }

  reset(): void {
    // Nothing is kept.
  }
}
