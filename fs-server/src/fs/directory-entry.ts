/**
 * One name of a directory as getdents64(2) lays it out (struct linux_dirent64: u64 ino, s64 off, u16 reclen, u8 type,
 * NUL-terminated name; 8-byte aligned), looked at in place: a folder of thousands is listed without making thousands
 * of objects. FUSE's own record begins with the same 16 bytes.
 */
const NEXT_OFFSET = 8;
const RECORD_LENGTH = 16;
const TYPE = 18;
const NAME = 19;
const ALIGN = 8;

export class DirectoryEntry {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  /** Where the record starts. The reader of the directory moves it. */
  at = 0;

  constructor(records: Uint8Array) {
    this.bytes = records;
    this.view = new DataView(records.buffer, records.byteOffset, records.byteLength);
  }

  /** A record of its own. `name` without NUL. */
  static of(entry: { ino: bigint; nextOffset: bigint; type: number; name: string }): DirectoryEntry {
    const name = Buffer.from(`${entry.name}\0`, "utf8");
    const lengthBytes = Math.ceil((NAME + name.length) / ALIGN) * ALIGN;
    const made = new DirectoryEntry(new Uint8Array(lengthBytes));
    made.view.setBigUint64(0, entry.ino, true);
    made.view.setBigUint64(NEXT_OFFSET, entry.nextOffset, true);
    made.view.setUint16(RECORD_LENGTH, lengthBytes, true);
    made.view.setUint8(TYPE, entry.type);
    made.bytes.set(name, NAME);
    return made;
  }

  get ino(): bigint {
    return this.view.getBigUint64(this.at, true);
  }

  /** Pass it to `readDirectory` to go on after this entry. */
  get nextOffset(): bigint {
    return this.nextOffsetAt(this.at);
  }

  /** `nextOffset` of the record that starts at `at`. */
  nextOffsetAt(at: number): bigint {
    return this.view.getBigUint64(at + NEXT_OFFSET, true);
  }

  /** DT_* of readdir(3). */
  get type(): number {
    return this.view.getUint8(this.at + TYPE);
  }

  get recordBytes(): number {
    return this.view.getUint16(this.at + RECORD_LENGTH, true);
  }

  get nameStart(): number {
    return this.at + NAME;
  }

  /** Length of the name without its NUL, which lies in the record's last 8 bytes. */
  get nameBytes(): number {
    const end = this.at + this.recordBytes;
    let nul = Math.max(this.nameStart, end - ALIGN);
    while (nul < end && this.bytes[nul] !== 0) nul += 1;
    return nul - this.nameStart;
  }

  /** NUL-terminated; `.` and `..` occur. */
  get name(): Uint8Array {
    return this.bytes.subarray(this.nameStart, this.nameStart + this.nameBytes + 1);
  }
}
