// Content credentials as others verify them: `credentials.mjs AUTHORITY.pem PICTURE …`, one JSON line for each picture.
// c2pa-ts is an implementation of its own, in TypeScript, of signatures and hashes in PNG and JPEG; c2pa-wasm is the
// one that pages and c2patool are built on, which also judges the chain of certificates.
import { readFile } from 'node:fs/promises'
import init, { WasmReader } from '@contentauth/c2pa-wasm'
import { JPEG, PNG } from '@trustnxt/c2pa-ts/asset'
import { SuperBox } from '@trustnxt/c2pa-ts/jumbf'
import { ManifestStore } from '@trustnxt/c2pa-ts/manifest'

const [authority, ...pictures] = process.argv.slice(2)
const anchors = await readFile(authority, 'ascii')
await init({ module_or_path: await readFile(new URL(import.meta.resolve('@contentauth/c2pa-wasm/c2pa.wasm'))) })

async function byC2paTs(bytes) {
  const format = [PNG, JPEG].find((one) => one.canRead(bytes))
  if (!format) return null
  try {
    const asset = new format(bytes)
    const boxes = asset.getManifestJUMBF()
    if (!boxes) return { valid: false, failures: ['none'] }
    const result = await ManifestStore.read(SuperBox.fromBuffer(boxes)).validate(asset)
    return { valid: result.isValid, failures: result.statusEntries.filter((e) => !e.success).map((e) => e.code) }
  } catch (error) {
    return { valid: false, failures: [`${error}`] }
  }
}

async function byC2paWasm(bytes, type) {
  const settings = { trust: { trust_anchors: anchors }, verify: { verify_trust: true } }
  try {
    const store = JSON.parse((await WasmReader.fromBytes(type, bytes, JSON.stringify(settings))).json())
    const manifest = store.manifests[store.active_manifest]
    return {
      state: store.validation_state,
      failures: (store.validation_status ?? []).map((one) => one.code),
      signer: manifest.signature_info.common_name,
      software: manifest.claim_generator_info[0],
      action: manifest.assertions.find((one) => one.label.startsWith('c2pa.actions')).data.actions[0],
    }
  } catch (error) {
    return { state: 'none', failures: [`${error}`] }
  }
}

for (const picture of pictures) {
  const bytes = new Uint8Array(await readFile(picture))
  const type = `image/${picture.split('.').pop()}`
  console.log(JSON.stringify([picture, await byC2paTs(bytes), await byC2paWasm(bytes, type)]))
}
