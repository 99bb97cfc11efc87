import { describe, expect, it } from "vitest";
import { selectionFor } from "../../src/tracing/fault-path.ts";

const filterOf = (event: string, hasDevices: boolean): string | null | undefined =>
  selectionFor({ hasDevices }).events.find((one) => one.event === event)?.filter;

describe("the tracepoints of the fault path", () => {
  it("are those of the window: 64 MiB from 1 GiB on", () => {
    expect(filterOf("kvm/kvm_page_fault", false)).toBe(
      "fault_address >= 0x40000000 && fault_address < 0x44000000",
    );
    expect(filterOf("kvm/kvm_try_async_get_page", false)).toBe("gfn >= 0x40000 && gfn < 0x44000");
  });

  it("are those of another VMM's window", () => {
    const { events } = selectionFor({ hasDevices: true, windowBase: 0xf8000000n });
    const filters = Object.fromEntries(events.map(({ event, filter }) => [event, filter]));
    expect(filters["kvm/kvm_page_fault"]).toBe("fault_address >= 0xf8000000 && fault_address < 0xfc000000");
    expect(filters["kvmmmu/kvm_tdp_mmu_spte_changed"]).toBe("gfn >= 0xf8000 && gfn < 0xfc000");
    expect(JSON.stringify(events)).not.toContain("0x4000");
  });

  it("have KVM_EXIT_MMIO where the guest has no devices: it is an access then", () => {
    const filter = (hasDevices: boolean) => filterOf("kvm/kvm_userspace_exit", hasDevices);
    expect(filter(false)).toBe("errno != -4 && (errno < 0 || (reason != 2 && reason != 5))");
    expect(filter(true)).toBe("errno != -4 && (errno < 0 || (reason != 2 && reason != 5 && reason != 6))");
  });
});
