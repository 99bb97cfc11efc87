/** What takes a VMM whose mapping of the guest's memory is ours to make and to change: the micro-guest's (engine `kvm`). */
import { isEarlyFailure, isVmmAction, type Scenario, type VmmStep } from "../../../language/src/index.ts";

/** A memory error is the page's, whoever has it mapped: no mapping of the VMM's is needed to bring it about. */
function isOfFile(step: VmmStep): boolean {
  return step.verb === "memory-failure" && !isEarlyFailure(step);
}

/**
 * Why an engine cannot run the scenario that shares the file's own pages, readable and writable; null: it can.
 * @param failsPages it can have memory_failure() take a page of the file
 */
export function ownMappingReason(
  { backing, actors }: Pick<Scenario, "backing" | "actors">,
  { failsPages }: { readonly failsPages: boolean },
): string | null {
  switch (backing.kind) {
    case "private":
    case "private-swapped":
      return "this engine's mappings are shared";
    case "userfaultfd":
      return "this engine's memory is the file's: no handler of a userfaultfd fills it";
    case "guest-memfd":
      return "this engine's memory is the file's: no guest_memfd";
    case "hugetlb":
      return "this engine reserves what it maps: a pool of huge pages that is too small would refuse the mapping";
    case "host-file":
    case "tmpfs":
    case "tmpfs-full":
    case "tmpfs-huge":
  }
  if (backing.readonly) return "this engine maps the file readable and writable";
  for (const [name, actor] of Object.entries(actors)) {
    const actions = actor.in === "vmm" ? actor.steps.filter(isVmmAction) : [];
    const action = actions.find((step) => !(failsPages && isOfFile(step)));
    if (action !== undefined) return `${name}: ${action.verb}; this engine's VMM leaves its mapping as it is`;
  }
  return null;
}
