from stylex.model import load
import torch
def test_a(tiny_checkpoint, tiny_model, tiny_images):
    r = tiny_model.reconstruct(tiny_images)
    print(r.flatten(1).std(1), tiny_model.classifier(tiny_images), tiny_model(tiny_images))
    m = load(tiny_checkpoint)
    assert torch.equal(m.reconstruct(tiny_images), r)
