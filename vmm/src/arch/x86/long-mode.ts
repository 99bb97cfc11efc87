/** A vCPU as the micro-guest's boot.S expects it: 64-bit mode, paging on, descriptor tables of the image. */
import type { Kvm } from "../../kvm/device.ts";
import { cpuFeatures, supportedCpuid } from "./cpuid.ts";
import type { GuestImage } from "./image.ts";
import { machineLayout } from "./layout.ts";
import { PML4_ADDRESS } from "./page-tables.ts";
import type { Segment, Vcpu } from "./vcpu.ts";

const CR0 = 0x80050033n; // PG, AM, WP, NE, ET, MP, PE
const CR4_PAE = 0x20n;
const CR4_OSFXSR_OSXMMEXCPT = 0x600n;
const CR4_MCE = 0x40n;
const CR4_OSXSAVE = 0x40000n;
const EFER_LME_LMA = 0x500n;
/** IA32_APIC_BASE: x2APIC mode, enabled, at the usual address; and the bit of the boot processor. */
const APIC_BASE_X2APIC = 0xfee00000n | 0x400n | 0x800n;
const APIC_BASE_BSP = 0x100n;
const XCR0_X87_SSE = 3n;
const XCR0_AVX = 4n;
const XCR0_AVX512 = 0xe0n;

/** Every vCPU starts at the image's entry, the second one, too: no INIT, no SIPI, no real mode. */
export function enterLongMode(
  kvm: Kvm,
  vcpu: Vcpu,
  cpu: number,
  image: GuestImage,
  options: { readonly lapicInKernel: boolean; readonly takesMachineChecks: boolean },
): void {
  const features = cpuFeatures(supportedCpuid(kvm));
  if (options.lapicInKernel && !features.x2apic) throw new Error("this KVM offers no x2APIC to its guests");
  const flat = { base: 0n, limit: 0xffffffff, s: 1, dpl: 0, g: 1 };
  const code: Segment = { ...flat, selector: 0x08, type: 11, l: 1, db: 0 };
  const data: Segment = { ...flat, selector: 0x10, type: 3, l: 0, db: 1 };
  const { limit } = image.tss;
  const base = image.tss.base + BigInt(cpu * (limit + 1));
  const selector = machineLayout.SELECTOR_TSS + 16 * cpu;
  const tr: Segment = { base, limit, selector, type: 11, s: 0, dpl: 0, l: 0, db: 0, g: 0 };
  const osxsave = features.xsave ? CR4_OSXSAVE : 0n;
  const mce = options.takesMachineChecks ? CR4_MCE : 0n;
  vcpu.setSpecialRegisters({
    segments: { cs: code, ds: data, es: data, ss: data, tr },
    tables: { gdt: image.gdt, idt: image.idt },
    control: {
      cr0: CR0,
      cr3: PML4_ADDRESS,
      cr4: CR4_PAE | CR4_OSFXSR_OSXMMEXCPT | mce | osxsave,
      efer: EFER_LME_LMA,
      ...(options.lapicInKernel ? { apic_base: APIC_BASE_X2APIC | (cpu === 0 ? APIC_BASE_BSP : 0n) } : {}),
    },
  });
  if (features.xsave) {
    vcpu.setXcr0(
      XCR0_X87_SSE | (features.avx ? XCR0_AVX : 0n) | (features.avx512 ? XCR0_AVX | XCR0_AVX512 : 0n),
    );
  }
  const rsp = image.bootStack + BigInt(cpu * machineLayout.BOOT_STACK_BYTES);
  vcpu.setRegisters({ rip: image.entry, rsp, rflags: 2n });
  if (options.lapicInKernel && cpu > 0) vcpu.makeRunnable();
}
