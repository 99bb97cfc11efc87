/** All policies by name. */
import { injectMce, injectPf, injectPv, injectVe, nmiPolicy, poisonPolicy } from "../arch/policies.ts";
import type { FaultPolicy, PolicyName } from "./policy.ts";
import { remapZero } from "./remap-zero.ts";
import { stopPolicy } from "./stop.ts";

export const policies: Readonly<Record<PolicyName, FaultPolicy>> = {
  stop: stopPolicy,
  "inject-pf": injectPf,
  "inject-mce": injectMce,
  "inject-ve": injectVe,
  "inject-pv": injectPv,
  nmi: nmiPolicy,
  "remap-zero": remapZero,
  poison: poisonPolicy,
};
