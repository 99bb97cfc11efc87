/*
 * Async page faults as the Linux guest uses them since 5.9 (arch/x86/kernel/kvm.c): page-not-present by #PF with the
 * token in CR2, page-ready by interrupt with an acknowledgement, CPL 3 only.
 */
#include "kernel.h"

#define MSR_KVM_ASYNC_PF_EN 0x4b564d02
#define MSR_KVM_ASYNC_PF_INT 0x4b564d06
#define MSR_KVM_ASYNC_PF_ACK 0x4b564d07
#define KVM_ASYNC_PF_ENABLED 1
#define KVM_ASYNC_PF_DELIVERY_AS_INT 8
#define KVM_CPUID_FEATURES 0x40000001
#define KVM_FEATURE_ASYNC_PF_INT (1u << 14)
#define KVM_PV_REASON_PAGE_NOT_PRESENT 1

/* struct kvm_vcpu_pv_apf_data (Documentation/virt/kvm/x86/msr.rst): `flags` belongs to #PF, `token` to the interrupt. */
struct apf_area {
    uint32_t flags, token;
};
#define apf ((volatile struct apf_area *)this_area(APF_AREA_ADDRESS))

static int offered(void)
{
    uint32_t eax = KVM_CPUID_FEATURES, ebx, ecx, edx;
    __asm__ volatile("cpuid" : "+a"(eax), "=b"(ebx), "=c"(ecx), "=d"(edx));
    return (eax & KVM_FEATURE_ASYNC_PF_INT) != 0;
}

void enable_async_page_faults(void)
{
    if (!offered())
        stop(DOORBELL_PANIC, PANIC_NO_APF);
    wrmsr(MSR_KVM_ASYNC_PF_INT, VECTOR_APF_READY);
    wrmsr(MSR_KVM_ASYNC_PF_EN, (uint64_t)apf | KVM_ASYNC_PF_ENABLED | KVM_ASYNC_PF_DELIVERY_AS_INT);
}

int page_not_present_pending(void) { return (apf->flags & KVM_PV_REASON_PAGE_NOT_PRESENT) != 0; }

void page_not_present(struct frame *frame)
{
    uint32_t token = (uint32_t)read_cr2();
    apf->flags = 0;
    this_report()->apf_not_present_count++;
    record(EVENT_APF_NOT_PRESENT, frame, frame->error_code, token);
    if (in_kernel(frame))
        stop(DOORBELL_PANIC, PANIC_APF_IN_KERNEL);
    sleep_task(frame, token);
}

void page_ready(struct frame *frame)
{
    uint32_t token = apf->token;
    apf->token = 0;
    wrmsr(MSR_KVM_ASYNC_PF_ACK, 1);
    this_report()->apf_ready_count++;
    record(EVENT_APF_READY, frame, 0, token);
    wake_task(token);
}
