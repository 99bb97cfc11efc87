/** What the rest of the VMM may use to boot Linux. */
export { type AcpiOptions, acpiTables } from "./acpi.ts";
export type { LinuxCpu } from "./cpuid.ts";
export { enterLinux, setUpMachineChecks } from "./entry.ts";
export { BootImageError, type LinuxImage } from "./image.ts";
export { parseKernel } from "./kernel.ts";
export { linuxLayout, MAX_RAM_BYTES, sharedAddress, writeLinux } from "./layout.ts";
export { PORT_WORDS, Ports, SERIAL_GSI } from "./ports.ts";
