/**
 * Where a gfn lies in the hashes that KVM keeps by vCPU: hash_32() of include/linux/hash.h, as kvm_async_pf_hash_fn()
 * (arch/x86/kvm/x86.c) calls it, and kvm_error_gfn_hash_fn() of Goyal's v2 to v4 likewise.
 *
 * The hash of outstanding faults (`apf.gfns`) probes linearly, so two gfns of one slot are both found; the model keeps a
 * set. The hash of gfns that failed (`apf.error_gfns`, a proposal) overwrites.
 */

/** ASYNC_PF_PER_VCPU of arch/x86/include/asm/kvm_host.h, ERROR_GFN_PER_VCPU of the proposal. */
export const GFNS_PER_VCPU = 64;

/** GOLDEN_RATIO_32 */
const GOLDEN_RATIO_32 = 0x61c88647;

/** order_base_2(GFNS_PER_VCPU) */
const BITS = Math.log2(GFNS_PER_VCPU);

/** hash_32(gfn & 0xffffffff, order_base_2(64)) */
export function gfnSlot(gfn: bigint): number {
  return Math.imul(Number(BigInt.asUintN(32, gfn)), GOLDEN_RATIO_32) >>> (32 - BITS);
}
