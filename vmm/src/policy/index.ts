/** All policies by name. */
import { injectMce } from "./inject-mce.ts";
import { injectPf } from "./inject-pf.ts";
import { injectPv } from "./inject-pv.ts";
import { injectVe } from "./inject-ve.ts";
import { nmiPolicy } from "./nmi.ts";
import { poisonPolicy } from "./poison.ts";
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
