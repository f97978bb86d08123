"""Messages as hypothesis makes them."""

from hypothesis import strategies as st

from plumised.ipc.messages import (
    Beat,
    Counters,
    Failure,
    Hello,
    Layer,
    LayerName,
    Message,
    Phase,
    Refused,
    Role,
    Sandbox,
    State,
    Usage,
    Welcome,
)

numbers = st.integers(0, 2**63 - 1)
texts = st.text(st.characters(codec="utf-8"), max_size=100)
counters = st.builds(Counters, numbers, numbers, numbers, numbers)
usages = st.builds(Usage, counters, counters, counters)
name_lists = st.lists(texts, max_size=5).map(tuple)
layers = st.builds(Layer, st.sampled_from(LayerName), st.booleans(), texts)

messages: st.SearchStrategy[Message] = st.one_of(
    st.builds(Hello, numbers, texts, st.sampled_from(Role), numbers, numbers),
    st.builds(Welcome, numbers),
    st.builds(Refused, texts, texts),
    usages,
    st.builds(
        State,
        st.sampled_from(Phase),
        *(st.none() | numbers for _ in range(5)),
        st.none() | texts,
        name_lists,
        st.none() | texts,
        st.none() | texts,
    ),
    st.builds(Sandbox, st.lists(layers, max_size=5).map(tuple), name_lists),
    st.builds(Beat, numbers, numbers, numbers, numbers, numbers, name_lists),
    st.builds(Failure, texts, texts, texts, st.booleans()),
)
