/* An addon for Node.js that is one buffer of 1000 bytes, which are freed already. What is declared
 * here is Node-API, whose header a machine need not have. */
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

typedef struct napi_env__ *napi_env;
typedef struct napi_value__ *napi_value;
int napi_create_external_buffer(napi_env, size_t, void *, void (*)(napi_env, void *, void *), void *, napi_value *);

static void nothing_to_do(napi_env env, void *data, void *hint) { (void)env, (void)data, (void)hint; }

__attribute__((visibility("default"))) napi_value napi_register_module_v1(napi_env env, napi_value exports) {
  napi_value buffer = NULL;
  char *data = malloc(1000);
  if (data == NULL) return exports;
  memset(data, 'x', 1000);
  napi_create_external_buffer(env, 1000, data, nothing_to_do, NULL, &buffer);
  free(data);
  return buffer;
}
