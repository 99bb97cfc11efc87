/** The driver of a hostile guest, by the registers of virtio-mmio. Deterministic: the same random numbers give the same accesses. */
import type { GuestRegion } from "../transport/virtio/memory.ts";
import type { VirtioMmio } from "../transport/virtio/mmio.ts";
import { VIRTIO_F_INDIRECT_DESC, VIRTIO_F_VERSION_1 } from "../transport/virtio/queue.ts";
import { REGISTER, STATUS } from "../transport/virtio/registers.ts";
import type { Random } from "./generate.ts";
import { HostileRings, type RingPlace } from "./hostile-rings.ts";

export class HostileGuest extends HostileRings {
  readonly #mmio: VirtioMmio;

  constructor(mmio: VirtioMmio, regions: readonly GuestRegion[], random: Random) {
    super(regions, random);
    this.#mmio = mmio;
  }

  negotiate(): void {
    this.#set(REGISTER.status, 0);
    this.#set(REGISTER.status, STATUS.acknowledge | STATUS.driver);
    const features = VIRTIO_F_VERSION_1 | VIRTIO_F_INDIRECT_DESC;
    for (const [select, word] of [features & 0xffff_ffffn, features >> 32n].entries()) {
      this.#set(REGISTER.driverFeaturesSelect, select);
      this.#set(REGISTER.driverFeatures, word);
    }
    this.#set(REGISTER.status, STATUS.featuresOk);
  }

  start(queue: number, place: RingPlace): void {
    this.clear(place);
    this.#set(REGISTER.queueSelect, queue);
    this.#set(REGISTER.queueSize, place.size);
    for (const [register, gpa] of [
      [REGISTER.queueDescriptors, place.descriptors],
      [REGISTER.queueDriver, place.available],
      [REGISTER.queueDevice, place.used],
    ] as const) {
      this.#set(register, gpa & 0xffff_ffffn);
      this.#set(register + 4, gpa >> 32n);
    }
    this.#set(REGISTER.queueReady, 1);
  }

  notify(queue: number): void {
    this.#set(REGISTER.queueNotify, queue);
  }

  #set(register: number, value: number | bigint): void {
    this.#mmio.write(register, 4, BigInt(value));
  }
}
