/**
 * ACPI tables of a Linux guest (ACPI 6.5, chapters 5 and 20): what Linux needs to find its processors, its I/O APIC,
 * virtio devices by MMIO, and a way to turn the machine off. Pure.
 *
 * Linux has no other way to hear of a virtio-mmio device where VIRTIO_MMIO_CMDLINE_DEVICES is off, as in Debian's kernels.
 */
import { linuxLayout } from "./layout.ts";

export type AcpiOptions = {
  readonly cpus: number;
  /** Devices with an MMIO page and an interrupt line, level-triggered, active high. */
  readonly virtio: readonly { readonly address: bigint; readonly gsi: number }[];
};

/** Ports of the fixed hardware that the FADT names. */
export const acpiPort = { pm1Event: 0x600, pm1Control: 0x604, reset: 0x64 } as const;
export const ACPI_RESET_VALUE = 0xfe;
/** PM1 control: SLP_TYP (bits 10 to 12) as in `\_S5`, and SLP_EN. */
export const S5_SLEEP_TYPE = 5;
export const SLEEP_ENABLE = 0x2000;

const OEM_ID = "DAXFLT";
const OEM_TABLE_ID = "DAXFAULT";
const HEADER_BYTES = 36;
const RSDP_BYTES = 36;
const FACS_BYTES = 64;
const FADT_BYTES = 276;
const ALIGNMENT = 64;
const SCI_GSI = 9;

/** AML (ACPI 6.5, chapter 20): byte strings put together. */
type Aml = readonly number[];
const ascii = (text: string): number[] => [...Buffer.from(text, "latin1")];
const u32 = (value: number): number[] => [0, 8, 16, 24].map((shift) => (value >>> shift) & 0xff);
const integer = (value: number): Aml =>
  value === 0 || value === 1 ? [value] : value < 0x100 ? [0x0a, value] : [0x0c, ...u32(value)];
const text = (value: string): Aml => [0x0d, ...ascii(value), 0];

/** PkgLength counts itself: one byte below 64, else a nibble and one more byte. */
function packageLength(contentBytes: number): Aml {
  if (contentBytes + 1 < 0x40) return [contentBytes + 1];
  const length = contentBytes + 2;
  if (length >= 0x1000) throw new RangeError(`an AML package of ${length} bytes`);
  return [0x40 | (length & 0xf), length >> 4];
}
const packaged = (opcode: Aml, content: Aml): Aml => [
  ...opcode,
  ...packageLength(content.length),
  ...content,
];
const name = (segment: string, value: Aml): Aml => [0x08, ...ascii(segment), ...value];
const scope = (segment: string, content: Aml): Aml => packaged([0x10], [...ascii(segment), ...content]);
const device = (segment: string, content: Aml): Aml =>
  packaged([0x5b, 0x82], [...ascii(segment), ...content]);
const buffer = (bytes: Aml): Aml => packaged([0x11], [...integer(bytes.length), ...bytes]);
const packageOf = (elements: readonly Aml[]): Aml => packaged([0x12], [elements.length, ...elements.flat()]);

/** Memory32Fixed (writable), Extended Interrupt (consumer, level, active high), End Tag. */
function resources({ address, gsi }: AcpiOptions["virtio"][number]): Aml {
  const memory = [0x86, 9, 0, 1, ...u32(Number(address)), ...u32(0x1000)];
  return buffer([...memory, 0x89, 6, 0, 1, 1, ...u32(gsi), 0x79, 0]);
}

function dsdt({ virtio }: AcpiOptions): Aml {
  const devices = virtio.flatMap((one, index) =>
    device(`VI${index.toString(16).toUpperCase().padStart(2, "0")}`, [
      ...name("_HID", text("LNRO0005")),
      ...name("_UID", integer(index)),
      // Coherent DMA: without it the driver of platform devices gets no DMA mask.
      ...name("_CCA", integer(1)),
      ...name("_CRS", resources(one)),
    ]),
  );
  const s5 = [integer(S5_SLEEP_TYPE), integer(S5_SLEEP_TYPE), integer(0), integer(0)];
  return [...scope("_SB_", devices), ...name("_S5_", packageOf(s5))];
}

/** Multiple APIC Description Table, after its header. */
function madt({ cpus }: AcpiOptions): Aml {
  const PCAT_COMPATIBLE = 1;
  const processors = Array.from({ length: cpus }, (_, id) => [0, 8, id, id, ...u32(1)]).flat();
  const ioApic = [1, 12, 0, 0, ...u32(Number(linuxLayout.IOAPIC)), ...u32(0)];
  // GSI n is pin n, the PIT's 0, too, as KVM routes them (default_routing, arch/x86/kvm/irq_comm.c): no override says
  // otherwise. The SCI is level-triggered, active high (flags 0x0d).
  const sci = [2, 10, 0, SCI_GSI, ...u32(SCI_GSI), 0x0d, 0];
  return [...u32(Number(linuxLayout.LOCAL_APIC)), ...u32(PCAT_COMPATIBLE), ...processors, ...ioApic, ...sci];
}

function setChecksum(bytes: Uint8Array, at: number, lengthBytes: number): void {
  bytes[at] = 0;
  const sum = bytes.subarray(0, lengthBytes).reduce((total, byte) => total + byte, 0);
  bytes[at] = -sum & 0xff;
}

function table(signature: string, revision: number, body: Uint8Array | Aml): Uint8Array {
  const bytes = new Uint8Array(HEADER_BYTES + body.length);
  const view = new DataView(bytes.buffer);
  bytes.set(ascii(signature), 0);
  view.setUint32(4, bytes.length, true);
  view.setUint8(8, revision);
  bytes.set(ascii(OEM_ID), 10);
  bytes.set(ascii(OEM_TABLE_ID), 16);
  view.setUint32(24, 1, true);
  bytes.set(ascii("DAXF"), 28);
  view.setUint32(32, 1, true);
  bytes.set(body, HEADER_BYTES);
  setChecksum(bytes, 9, bytes.length);
  return bytes;
}

/** Fixed ACPI Description Table: no SMI command (always in ACPI mode), no timer, no GPE; the reset register is port 0x64. */
function fadt(facsAddress: bigint, dsdtAddress: bigint): Uint8Array {
  const view = new DataView(new ArrayBuffer(FADT_BYTES - HEADER_BYTES));
  const u8 = (at: number, value: number) => view.setUint8(at - HEADER_BYTES, value);
  const u16 = (at: number, value: number) => view.setUint16(at - HEADER_BYTES, value, true);
  const word = (at: number, value: number) => view.setUint32(at - HEADER_BYTES, value, true);
  /** Generic Address Structure of a port. */
  const port = (at: number, address: number, bits: number, access: number) => {
    u8(at, 1);
    u8(at + 1, bits);
    u8(at + 3, access);
    word(at + 4, address);
  };
  const LEGACY_DEVICES = 1;
  const VGA_NOT_PRESENT = 4;
  const CMOS_RTC_NOT_PRESENT = 32;
  // WBINVD, C1 on all processors, no fixed power and sleep button, reset register.
  const FLAGS = 0x1 | 0x4 | 0x10 | 0x20 | 0x400;
  word(36, Number(facsAddress));
  word(40, Number(dsdtAddress));
  u16(46, SCI_GSI);
  word(56, acpiPort.pm1Event);
  word(64, acpiPort.pm1Control);
  u8(88, 4);
  u8(89, 2);
  u16(96, 0xffff);
  u16(98, 0xffff);
  u16(109, LEGACY_DEVICES | VGA_NOT_PRESENT | CMOS_RTC_NOT_PRESENT);
  word(112, FLAGS);
  port(116, acpiPort.reset, 8, 1);
  u8(128, ACPI_RESET_VALUE);
  view.setBigUint64(140 - HEADER_BYTES, dsdtAddress, true);
  port(148, acpiPort.pm1Event, 32, 2);
  port(172, acpiPort.pm1Control, 16, 2);
  return table("FACP", 6, new Uint8Array(view.buffer));
}

function facs(): Uint8Array {
  const bytes = new Uint8Array(FACS_BYTES);
  bytes.set(ascii("FACS"), 0);
  bytes[4] = FACS_BYTES;
  bytes[32] = 2; // version
  return bytes;
}

function rsdp(xsdtAddress: bigint): Uint8Array {
  const bytes = new Uint8Array(RSDP_BYTES);
  const view = new DataView(bytes.buffer);
  bytes.set(ascii("RSD PTR "), 0);
  bytes.set(ascii(OEM_ID), 9);
  view.setUint8(15, 2);
  view.setUint32(20, RSDP_BYTES, true);
  view.setBigUint64(24, xsdtAddress, true);
  setChecksum(bytes, 8, 20);
  setChecksum(bytes, 32, RSDP_BYTES);
  return bytes;
}

/** All tables, one after the other, for `linuxLayout.ACPI_TABLES`; the RSDP is the first. */
export function acpiTables(options: AcpiOptions): Uint8Array {
  const parts: { readonly address: bigint; readonly bytes: Uint8Array }[] = [];
  let next = linuxLayout.ACPI_TABLES + BigInt(ALIGNMENT);
  const place = (bytes: Uint8Array): bigint => {
    const address = next;
    parts.push({ address, bytes });
    next += BigInt(Math.ceil(bytes.length / ALIGNMENT) * ALIGNMENT);
    return address;
  };
  const fixed = place(fadt(place(facs()), place(table("DSDT", 2, dsdt(options)))));
  const apics = place(table("APIC", 5, madt(options)));
  const entries = new DataView(new ArrayBuffer(16));
  entries.setBigUint64(0, fixed, true);
  entries.setBigUint64(8, apics, true);
  const root = place(table("XSDT", 1, new Uint8Array(entries.buffer)));
  const all = new Uint8Array(Number(next - linuxLayout.ACPI_TABLES));
  all.set(rsdp(root), 0);
  for (const { address, bytes } of parts) all.set(bytes, Number(address - linuxLayout.ACPI_TABLES));
  return all;
}
