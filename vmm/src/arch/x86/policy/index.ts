/** The policies that depend on the architecture: what they inject. */
export { injectMce } from "./inject-mce.ts";
export { injectPf } from "./inject-pf.ts";
export { injectPv } from "./inject-pv.ts";
export { injectVe } from "./inject-ve.ts";
export { nmiPolicy } from "./nmi.ts";
export { poisonPolicy } from "./poison.ts";
