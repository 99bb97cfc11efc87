/** A boot vCPU as the 64-bit boot protocol wants it, and the machine-check banks of every vCPU. Others wait for INIT and SIPI. */
import type { Kvm } from "../../../kvm/device.ts";
import { ioctlStruct } from "../../../kvm/device.ts";
import type { Segment, Vcpu } from "../vcpu.ts";
import type { LinuxImage } from "./image.ts";
import { bootSelector, GDT_LIMIT, linuxLayout } from "./layout.ts";

const CR0 = 0x80050033n; // PG, AM, WP, NE, ET, MP, PE
const CR4_PAE = 0x20n;
const EFER_LME_LMA = 0x500n;

/** Paging on, flat segments, RSI at `struct boot_params`, interrupts off. */
export function enterLinux(vcpu: Vcpu, kernel: LinuxImage): void {
  const flat = { base: 0n, limit: 0xffffffff, s: 1, dpl: 0, g: 1 };
  const code: Segment = { ...flat, selector: bootSelector.code, type: 11, l: 1, db: 0 };
  const data: Segment = { ...flat, selector: bootSelector.data, type: 3, l: 0, db: 1 };
  vcpu.setSpecialRegisters({
    segments: { cs: code, ds: data, es: data, fs: data, gs: data, ss: data },
    tables: { gdt: { base: linuxLayout.GDT, limit: GDT_LIMIT } },
    control: { cr0: CR0, cr3: linuxLayout.PAGE_TABLES, cr4: CR4_PAE, efer: EFER_LME_LMA },
  });
  vcpu.setRegisters({
    rip: kernel.entry,
    rsi: linuxLayout.BOOT_PARAMS,
    rsp: linuxLayout.BOOT_STACK,
    rflags: 2n,
  });
}

/** MCG_CAP: the number of banks, MCG_CTL_P, MCG_SER_P. */
const BANKS = 10n;
const MCG_CTL_P = 1n << 8n;
const MCG_SER_P = 1n << 24n;

/** Gives a vCPU its machine-check banks, with as much of software recovery as this KVM has. */
export function setUpMachineChecks(kvm: Kvm, vcpu: Vcpu): void {
  const supported = new BigUint64Array(1);
  ioctlStruct(kvm.fd, "KVM_X86_GET_MCE_CAP_SUPPORTED", supported);
  vcpu.setupMachineChecks(BANKS | ((supported[0] ?? 0n) & (MCG_CTL_P | MCG_SER_P)));
}
