/**
 * KVM_GET_STATS_FD: the counters of a VM or of a vCPU by name (api.rst 4.133; since Linux 5.14).
 *
 * The descriptors are read once; `read` costs one pread(2) of the data block.
 */
import { closeSync, readSync } from "node:fs";
import { ioctlWord } from "./device.ts";

const HEADER_BYTES = 24;
/** `struct kvm_stats_desc` without its name: flags u32, exponent s16, size u16, offset u32, bucket_size u32. */
const DESCRIPTOR_BYTES = 16;
/** Bounds on the file's own header: it comes from the kernel, but a wrong number must not become a huge buffer. */
const MAX_DESCRIPTORS = 4096;
const MAX_NAME_BYTES = 256;

type Counter = { readonly name: string; readonly offset: number };

export class Stats {
  readonly #fd: number;
  readonly #counters: readonly Counter[];
  readonly #dataOffset: number;
  readonly #data: DataView;

  /** @param owner descriptor of a VM or a vCPU. Throws a SyscallError (ENOTTY before Linux 5.14). */
  constructor(owner: number) {
    this.#fd = ioctlWord(owner, "KVM_GET_STATS_FD");
    const header = new DataView(new ArrayBuffer(HEADER_BYTES));
    readSync(this.#fd, header, 0, HEADER_BYTES, 0);
    const nameBytes = header.getUint32(4, true);
    const count = header.getUint32(8, true);
    if (count > MAX_DESCRIPTORS || nameBytes > MAX_NAME_BYTES) {
      throw new RangeError(
        `KVM_GET_STATS_FD: ${count} counters with names of ${nameBytes} bytes, expected at most ${MAX_DESCRIPTORS} and ${MAX_NAME_BYTES}`,
      );
    }
    this.#dataOffset = header.getUint32(20, true);
    this.#counters = this.#readDescriptors(header.getUint32(16, true), count, nameBytes);
    const end = this.#counters.reduce((most, { offset }) => Math.max(most, offset + 8), 0);
    this.#data = new DataView(new ArrayBuffer(end));
  }

  #readDescriptors(offset: number, count: number, nameBytes: number): Counter[] {
    const stride = DESCRIPTOR_BYTES + nameBytes;
    const bytes = Buffer.alloc(stride * count);
    readSync(this.#fd, bytes, 0, bytes.length, offset);
    return Array.from({ length: count }, (_, index) => {
      const start = index * stride;
      const name = bytes.subarray(start + DESCRIPTOR_BYTES, start + stride);
      const end = name.indexOf(0);
      return {
        name: name.toString("latin1", 0, end === -1 ? nameBytes : end),
        offset: bytes.readUInt32LE(start + 8),
      };
    });
  }

  #refresh(): void {
    readSync(this.#fd, this.#data, 0, this.#data.byteLength, this.#dataOffset);
  }

  /** One counter now, or null if this kernel has none of that name. Histograms give their first bucket. */
  read(name: string): bigint | null {
    const counter = this.#counters.find((one) => one.name === name);
    if (counter === undefined) return null;
    this.#refresh();
    return this.#data.getBigUint64(counter.offset, true);
  }

  /** All counters that are not zero. */
  readAll(): Record<string, bigint> {
    this.#refresh();
    const values = this.#counters.map(
      ({ name, offset }) => [name, this.#data.getBigUint64(offset, true)] as const,
    );
    return Object.fromEntries(values.filter(([, value]) => value !== 0n));
  }

  close(): void {
    closeSync(this.#fd);
  }
}
