/**
 * The NVDIMM of a Linux guest, a virtio-pmem device: an ext4 in which one file is the case's file, mapped shared, as QEMU's
 * `memory-backend-file,share=on` maps an image.
 *
 * An image is metadata and, behind all of them, the blocks of the guest's file. Only those blocks are the case's file;
 * what lies before is memory of the VMM's. So an offset of the scenario is an offset of the host's file and of the
 * guest's, and "the host truncates to SIZE" is what truncate(1) of a whole image to `FILE_OFFSET` + SIZE is: the cut lies
 * behind the metadata, and every case is about the file's pages. An image cut to less has no file system.
 */
import { fsyncSync } from "node:fs";
import { checkedRange, VirtioPmem, type WindowRange } from "../../../../fs-server/src/index.ts";
import { viewOf } from "../../../../sys/src/index.ts";
import { WINDOW_BASE } from "../../../../vmm/src/index.ts";
import { ext4Metadata, FILE_OFFSET } from "./ext4-image.ts";
import { GuestWindow } from "./window.ts";

/** A multiple of 16 MiB, as libnvdimm aligns regions; room for the largest file of a scenario. */
const DIMM_BYTES: bigint = 80n * 2n ** 20n;

const EIO = -5;

export class Nvdimm {
  readonly kind = "nvdimm";
  /** The device's memory, whole. */
  readonly memory: GuestWindow = new GuestWindow(DIMM_BYTES);
  readonly device: VirtioPmem = new VirtioPmem({
    gpa: WINDOW_BASE,
    lengthBytes: DIMM_BYTES,
    flush: () => this.#flush(),
  });
  readonly #metadata: Uint8Array;
  /** The case's file; null: none is in the device. */
  #file: { readonly fd: number; readonly range: WindowRange } | null = null;

  constructor() {
    this.memory.replaceByZeros(0n);
    this.#metadata = viewOf(this.memory.hva, FILE_OFFSET);
  }

  /**
   * Puts an image with the file into the device. The guest must not have one mounted.
   * @param fd of the file, open for reading and writing. Lent, until `remove`.
   */
  insert(fd: number, name: string, sizeBytes: number): void {
    const { sizeBytes: room, alignmentBytes } = this.memory;
    this.#metadata.set(ext4Metadata(name, sizeBytes));
    const range = checkedRange(BigInt(FILE_OFFSET), BigInt(sizeBytes), room, alignmentBytes);
    this.memory.map(range, fd, 0n, { writable: true });
    this.#file = { fd, range };
  }

  /** Zeros in place of the file, whatever was lost of it. The metadata stay: the guest can unmount. */
  loseFile(): void {
    this.memory.replaceByZeros(BigInt(FILE_OFFSET));
  }

  /** The file is its owner's again. Before the memory is closed. */
  remove(): void {
    if (this.#file !== null) this.memory.unmap(this.#file.range);
    this.#file = null;
    this.loseFile();
  }

  /** Of VIRTIO_PMEM_REQ_TYPE_FLUSH: 0, or a negative errno. */
  #flush(): number {
    try {
      if (this.#file !== null) fsyncSync(this.#file.fd);
      return 0;
    } catch {
      return EIO;
    }
  }
}
