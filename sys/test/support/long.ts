/** Whether tests run in full: `npm run test:long` (scripts/test-long), which runs the files that import this. */
export const isLong: boolean = process.env.DAXFAULT_LONG === "1";
