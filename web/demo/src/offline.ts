// Tells the service worker what to keep for the time without a network.

import type { Runtime } from "./runtime";

/** To be called once all is loaded; `kept` then is, once all of it is kept. Some browsers have no service workers in private windows. */
export async function keepForOffline(runtimes: Runtime[], kept: () => void): Promise<void> {
  if (!("serviceWorker" in navigator)) return;
  await navigator.serviceWorker.register("/sw.js");
  const { active } = await navigator.serviceWorker.ready;
  const byPage = performance.getEntriesByType("resource").map(({ name }) => name);
  const byWorkers = await Promise.all(runtimes.map((runtime) => runtime.fetched()));
  const addresses = [location.origin + location.pathname, ...byPage, ...byWorkers.flat()].filter(
    (address) => address.startsWith(location.origin) && !/\/api\/(status|serving|edge|labels)|\/sw\.js$/.test(address),
  );
  const { port1, port2 } = new MessageChannel();
  port1.onmessage = kept;
  active?.postMessage([...new Set(addresses)], [port2]);
}
