import { describe, expect, it } from "vitest";
import { acpiTables } from "../../../../src/arch/x86/linux/acpi.ts";
import { linuxLayout } from "../../../../src/arch/x86/linux/layout.ts";

const bytes = acpiTables({
  cpus: 3,
  virtio: [
    { address: 0xd0000000n, gsi: 16 },
    { address: 0xd0001000n, gsi: 17 },
  ],
});
const view = new DataView(bytes.buffer);
const sum = (at: number, length: number): number =>
  bytes.subarray(at, at + length).reduce((total, byte) => (total + byte) & 0xff, 0);
const offset = (address: bigint): number => Number(address - linuxLayout.ACPI_TABLES);
const signature = (at: number): string => Buffer.from(bytes.subarray(at, at + 4)).toString();
const tableAt = (address: bigint): { at: number; length: number; name: string } => {
  const at = offset(address);
  return { at, length: view.getUint32(at + 4, true), name: signature(at) };
};

/** As Linux finds them: RSDP, XSDT, and what that names. */
const root = tableAt(view.getBigUint64(24, true));
const tables = Array.from({ length: (root.length - 36) / 8 }, (_, i) =>
  tableAt(view.getBigUint64(root.at + 36 + 8 * i, true)),
);
const fadt = tables.find(({ name }) => name === "FACP")?.at ?? -1;

describe("acpiTables", () => {
  it("begins with an RSDP whose two checksums are right", () => {
    expect(Buffer.from(bytes.subarray(0, 8)).toString()).toBe("RSD PTR ");
    expect(sum(0, 20)).toBe(0);
    expect(sum(0, 36)).toBe(0);
  });

  it("has tables with right checksums, inside what was returned", () => {
    expect(root.name).toBe("XSDT");
    expect(tables.map(({ name }) => name)).toEqual(["FACP", "APIC"]);
    const dsdt = tableAt(view.getBigUint64(fadt + 140, true));
    expect(dsdt.name).toBe("DSDT");
    for (const { at, length } of [root, dsdt, ...tables]) {
      expect(at + length).toBeLessThanOrEqual(bytes.length);
      expect(sum(at, length)).toBe(0);
    }
  });

  it("has a FACS, aligned to 64 bytes, and no hardware-reduced flag", () => {
    const facs = view.getUint32(fadt + 36, true);
    expect(signature(offset(BigInt(facs)))).toBe("FACS");
    expect(facs % 64).toBe(0);
    expect(view.getUint32(fadt + 112, true) & (1 << 20)).toBe(0);
  });

  it("lists the processors by APIC id, one I/O APIC, and no other pin for the PIT than KVM's", () => {
    const madt = tables.find(({ name }) => name === "APIC");
    const entries: number[][] = [];
    for (
      let at = (madt?.at ?? 0) + 44;
      at < (madt?.at ?? 0) + (madt?.length ?? 0);
      at += bytes[at + 1] || 1e9
    ) {
      entries.push([...bytes.subarray(at, at + (bytes[at + 1] ?? 0))]);
    }
    const ofType = (type: number) => entries.filter(([first]) => first === type);
    expect(ofType(0).map(([, , , apicId]) => apicId)).toEqual([0, 1, 2]);
    expect(ofType(1)).toEqual([[1, 12, 0, 0, 0, 0, 0xc0, 0xfe, 0, 0, 0, 0]]);
    // Source and GSI of overrides: GSI n is pin n in KVM, unless KVM_SET_GSI_ROUTING changes it.
    expect(ofType(2).map((one) => one.slice(3, 5))).toEqual([[9, 9]]);
  });

  it("describes each virtio device by name, registers and interrupt", () => {
    const text = Buffer.from(bytes).toString("latin1");
    expect(text.split("LNRO0005").length - 1).toBe(2);
    const memory = Buffer.from([0x86, 9, 0, 1, 0, 0x10, 0, 0xd0, 0, 0x10, 0, 0]).toString("latin1");
    const interrupt = Buffer.from([0x89, 6, 0, 1, 1, 17, 0, 0, 0, 0x79, 0]).toString("latin1");
    expect(text).toContain(memory + interrupt);
  });

  it("has room for as many devices as the machine takes", () => {
    const virtio = Array.from({ length: 8 }, (_, i) => ({ address: 0xd0000000n, gsi: 16 + i }));
    expect(() => acpiTables({ cpus: 4, virtio })).not.toThrow();
  });
});
