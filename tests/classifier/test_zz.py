from stylex.classifier.frozen import Adapter
def test_zz():
    Adapter(input_resolution_px=8,input_channels=1,input_range=[0,255],mean=[0],std=[1])
