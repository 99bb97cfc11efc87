/*
 * Async page faults as the Linux guest uses them since 5.9 (arch/x86/kernel/kvm.c): page-not-present by #PF with the
 * token in CR2, page-ready by interrupt with an acknowledgement; CPL 3 only, unless send-always is asked for.
 */
#include "kernel.h"

#define MSR_KVM_ASYNC_PF_EN 0x4b564d02
#define MSR_KVM_ASYNC_PF_INT 0x4b564d06
#define MSR_KVM_ASYNC_PF_ACK 0x4b564d07
#define KVM_ASYNC_PF_ENABLED 1
#define KVM_ASYNC_PF_SEND_ALWAYS 2
#define KVM_ASYNC_PF_DELIVERY_AS_INT 8
#define KVM_FEATURE_ASYNC_PF_INT (1u << 14)
/* Of fixtures/kernels/sigbus-injection. */
#define KVM_FEATURE_ASYNC_PF_ERROR (1u << 20)
#define KVM_ASYNC_PF_SEND_ERROR 16

#define apf ((volatile struct apf_area *)this_area(APF_AREA_ADDRESS))

void enable_async_page_faults(void)
{
    uint32_t offered = kvm_features(), configuration = channel->configuration;
    if (!(offered & KVM_FEATURE_ASYNC_PF_INT))
        stop(DOORBELL_PANIC, PANIC_NO_APF);
    uint64_t always = configuration & CONFIGURE_APF_SEND_ALWAYS ? KVM_ASYNC_PF_SEND_ALWAYS : 0;
    int takes_errors = (configuration & CONFIGURE_APF_ERROR) && (offered & KVM_FEATURE_ASYNC_PF_ERROR);
    uint64_t errors = takes_errors ? KVM_ASYNC_PF_SEND_ERROR : 0;
    wrmsr(MSR_KVM_ASYNC_PF_INT, VECTOR_APF_READY);
    wrmsr(MSR_KVM_ASYNC_PF_EN,
          (uint64_t)apf | KVM_ASYNC_PF_ENABLED | KVM_ASYNC_PF_DELIVERY_AS_INT | always | errors);
}

uint32_t take_page_not_present(void)
{
    uint32_t flags = apf->flags;
    apf->flags = 0;
    return flags & PAGE_NOT_PRESENT;
}

void set_page_not_present(uint32_t flags) { apf->flags = flags; }

/* Interrupts on until page-ready has been here: the wake-up comes before the sleep. Bounded by KVM's own work. */
static void let_page_ready_in(void)
{
    uint32_t before = this_report()->apf_ready_count;
    while (this_report()->apf_ready_count == before)
        __asm__ volatile("sti\n hlt\n cli" : : : "memory");
}

void page_not_present(struct frame *frame)
{
    uint32_t token = (uint32_t)read_cr2();
    this_report()->apf_not_present_count++;
    this_report()->outstanding++;
    record(EVENT_APF_NOT_PRESENT, frame, frame->error_code, token);
    /* As Linux since 5.8: panic("Host injected async #PF in kernel mode"), __kvm_handle_async_pf(). */
    if (in_kernel(frame))
        stop(DOORBELL_PANIC, PANIC_APF_IN_KERNEL);
    if (channel->configuration & CONFIGURE_APF_SLEEPS_LATE)
        let_page_ready_in();
    sleep_task(frame, token);
}

void page_ready(struct frame *frame)
{
    uint32_t token = apf->token;
    int error = (channel->configuration & CONFIGURE_APF_ERROR) && (apf->ready_flags & PAGE_ERROR);
    apf->ready_flags = 0;
    apf->token = 0;
    wrmsr(MSR_KVM_ASYNC_PF_ACK, 1);
    this_report()->apf_ready_count++;
    record(EVENT_APF_READY, frame, error, token);
    wake_task(token, error);
}
