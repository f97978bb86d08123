# The engine's package, apart from what debian/rules does for both. A change here gives the package another version.
ENGINE_STAGE := $(CURDIR)/debian/plumise-engine-petals
ENGINE_SITE := $(ENGINE_STAGE)$(ENGINE_PREFIX)/lib/python3.11/site-packages

# Not taken: the kernels of GPUs, which a build for the CPU never loads; headers, tests and static libraries, which
# nothing uses at run time.
ENGINE_WITHOUT := bitsandbytes/libbitsandbytes_cuda* bitsandbytes/libbitsandbytes_rocm* \
	bitsandbytes/libbitsandbytes_xpu* \
	torch/include torch/share torch/test torch/lib/*.a torch/bin/*Test torch/bin/test_* torch/bin/protoc* \
	torch/bin/upgrader_models torch/bin/script_module* \
	numpy/core/include numpy/core/lib numpy/random/lib \
	numpy/tests numpy/*/tests scipy/*/tests scipy/*/*/tests sympy/*/tests sympy/*/*/tests networkx/*/tests \
	networkx/*/*/tests

stage-engine:
	debian/tools/stage-environment $(ENGINE_STAGE) $(ENGINE_PREFIX) "$$(requirements/make-env --packages engine)" \
		requirements/engine.lock
	cd $(ENGINE_SITE) && rm -rf $(ENGINE_WITHOUT)
	install -d $(ENGINE_SITE)/plumised
	cp -r --no-preserve=all plumised/petals plumised/ipc plumised/nesting.py plumised/py.typed $(ENGINE_SITE)/plumised
	@# Not the daemon's, which changes with each of its versions.
	echo '"""The part of plumised that runs in the engine."""' > $(ENGINE_SITE)/plumised/__init__.py
	CXXFLAGS=-s /usr/bin/python3.11 -m plumised.petals.fast.building $(ENGINE_STAGE)$(ENGINE_PREFIX)/lib/plumised
	rm $(ENGINE_STAGE)$(ENGINE_PREFIX)/lib/plumised/*.key
	/usr/bin/python3.11 requirements/unpack_upx.py $(ENGINE_SITE)/hivemind/hivemind_cli/p2pd \
		$(ENGINE_STAGE)$(ENGINE_PREFIX)/lib/plumised/p2pd
	ln -sf ../../../../plumised/p2pd $(ENGINE_SITE)/hivemind/hivemind_cli/p2pd
	debian/tools/compile-environment $(ENGINE_STAGE) $(ENGINE_PREFIX)
	debian/tools/describe-environment plumise-engine-petals $$(debian/tools/engine version) $(ENGINE_PREFIX) engine

test-engine:
	debian/tools/test-environment $(ENGINE_STAGE) $(ENGINE_PREFIX) tests/unit/petals tests/unit/ipc
