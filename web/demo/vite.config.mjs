import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { defineConfig } from "vite";

// LiteRT.js loads its WebAssembly by names of its own from one folder. That is named by its content, so that a browser
// may keep it for ever as it does the rest. Two builds: with relaxed SIMD, and without for older browsers.
const litert = "node_modules/@litertjs/core";
const files = ["litert_wasm_internal", "litert_wasm_compat_internal", "litert_wasm_jspi_internal"]
  .flatMap((name) => [`${name}.js`, `${name}.wasm`])
  .map((name) => ({ name, source: readFileSync(`${litert}/wasm/${name}`) }));
const hash = files.reduce((sum, { source }) => sum.update(source), createHash("sha256")).digest("hex").slice(0, 8);
const folder = `assets/litert-${hash}`;

export default defineConfig({
  define: {
    LITERT_FOLDER: JSON.stringify(`/${folder}`),
    LITERT_VERSION: JSON.stringify(JSON.parse(readFileSync(`${litert}/package.json`, "utf8")).version),
  },
  plugins: [
    {
      name: "litert",
      generateBundle() {
        for (const { name, source } of files) this.emitFile({ type: "asset", fileName: `${folder}/${name}`, source });
      },
    },
  ],
  build: {
    target: "es2022",
    assetsInlineLimit: 0, // the policy allows no data: addresses for code
    modulePreload: { polyfill: false },
    chunkSizeWarningLimit: 1200, // kB; the largest is tfjs-core with its converter
    rollupOptions: { input: ["index.html", "bench.html", "comparison.html"] },
  },
});
