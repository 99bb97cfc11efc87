import { describe, expect, it } from "vitest";
import { guestMemfdSupport } from "../../../src/engines/vm/kvm-support.ts";

describe("a guest_memfd that the host may map", () => {
  it.each([[{}], [{ KVM_CAP_GUEST_MEMFD_FLAGS: 0 }], [{ KVM_CAP_GUEST_MEMFD_FLAGS: 1 }]])(
    "is not to be had of a KVM with %j: a kernel that has one mends it",
    (capabilities) => {
      expect(guestMemfdSupport(capabilities)).toEqual({
        kind: "no",
        reason: expect.stringContaining("since Linux 6.18"),
        fix: "scripts/daxfault run '*guest-memfd*' --kernel debian:backports",
      });
    },
  );

  it("is to be had where its pages may be shared as well", () => {
    expect(guestMemfdSupport({ KVM_CAP_GUEST_MEMFD_FLAGS: 3 })).toEqual({ kind: "yes" });
  });
});
